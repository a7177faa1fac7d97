"""Makes the small Parquet files beside it with the writers that people use: pip install pyarrow polars; python make.py"""

from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import polars
import pyarrow
import pyarrow.parquet

HERE = Path(__file__).parent
ROWS = [
    ("2024-05-06T10:00:00.250", "alpha", 1000, 10, 100.0, "0.0125"),
    ("2024-05-06T10:01:00.000", "beta", 2000, 20, 1500.5, "0.0200"),
    ("2024-05-06T10:02:00.000", None, 3000, 30, None, "0.0100"),
    ("2024-05-06T10:03:00.000", "alpha", 4000, 40, 200.0, "0.0200"),
]
times, models, prompts, completions, latencies, costs = zip(*ROWS)

table = pyarrow.table({
    "timestamp": pyarrow.array([datetime.fromisoformat(t).replace(tzinfo=timezone.utc) for t in times],
                               pyarrow.timestamp("us", tz="UTC")),
    "model": pyarrow.array(models).dictionary_encode(),
    "prompt_tokens": pyarrow.array(prompts, pyarrow.int64()),
    "completion_tokens": pyarrow.array(completions, pyarrow.uint16()),
    "latency_ms": pyarrow.array(latencies, pyarrow.float64()),
    "cost_usd": pyarrow.array([Decimal(c) for c in costs], pyarrow.decimal128(10, 4)),
    "tags": pyarrow.array([["a", "b"], [], None, ["c"]]),
})
pyarrow.parquet.write_table(table, HERE / "pyarrow.parquet", compression="snappy", data_page_version="2.0")

frame = polars.DataFrame({
    # Without a zone, in nanoseconds.
    "timestamp": polars.Series([datetime.fromisoformat(t) for t in times]).cast(polars.Datetime("ns")),
    "model": polars.Series(models),
    "attributes": [{"gen_ai.usage.input_tokens": p, "gen_ai.usage.output_tokens": c} for p, c in zip(prompts, completions)],
    "latency_ms": polars.Series(latencies),
    "cost_usd": polars.Series([Decimal(c) for c in costs]).cast(polars.Decimal(38, 6)),
})
frame.write_parquet(HERE / "polars.parquet", compression="zstd")


def varint(number):
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


# A text of 300 MiB in a file of a few KiB, whose directory says that it is one byte long.
bomb = HERE / "bomb.parquet"
table = pyarrow.table({"prompt_tokens": [1], "completion_tokens": [1], "prompt": ["a" * (300 << 20)]})
pyarrow.parquet.write_table(table, bomb, compression="zstd", compression_level=19, use_dictionary=False,
                            write_statistics=False)
size = pyarrow.parquet.ParquetFile(bomb).metadata.row_group(0).column(2).total_uncompressed_size
content = bomb.read_bytes()
told, lie = varint(2 * size), b"\x82\x80\x80\x80\x00"
start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
assert len(told) == len(lie) and content[start:].count(told) == 1
bomb.write_bytes(content[:start] + content[start:].replace(told, lie))
