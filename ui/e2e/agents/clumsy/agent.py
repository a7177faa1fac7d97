"""Asks a table that nobody has, and breaks off."""

think("Looking for the table")
{"report_markdown": str(sql_query(query="select count(*) from nowhere"))}
