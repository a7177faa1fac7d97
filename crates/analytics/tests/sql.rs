//! SQL over files, and charts of what it finds: types, names, what is refused, and what is too much.
#![expect(clippy::unwrap_used, reason = "tests")]

mod files;

use std::time::Duration;

use netra_analytics::jobs::{self, Code, Error};
use proptest::prelude::*;
use serde_json::{Value, json};

use files::Files;

/// The questions that these tests have.
trait Asked {
    fn ask(&self, query: &str) -> Result<Value, Error>;
    fn rows(&self, query: &str) -> Value;
    fn refusal(&self, query: &str) -> String;
}

impl Asked for Files {
    fn ask(&self, query: &str) -> Result<Value, Error> {
        self.run("sql_query", json!({ "query": query }))
    }

    fn rows(&self, query: &str) -> Value {
        self.ask(query).unwrap()["rows"].clone()
    }

    fn refusal(&self, query: &str) -> String {
        let error = self.ask(query).unwrap_err();
        assert_eq!(error.code, Code::InvalidInput, "{error}");
        error.message
    }
}

const SALES: &str = "region,amount,code,share,note,empty\n\
    north,10,007,0.5,\"a, \"\"b\"\"\",\n\
    south,20,8,1,x,\n\
    north,-5,9,,12,\n\
    bad,row\n";

#[test]
fn a_column_has_the_type_that_holds_all_its_cells() {
    let files = Files::new(&[("Sales 2024.csv", SALES)]);
    let told = files.run("sql_query", json!({})).unwrap();
    let table = &told["tables"][0];
    assert_eq!(table["name"], "Sales_2024");
    assert_eq!(
        (&table["file"], &table["rows"]),
        (&json!("Sales 2024.csv"), &json!(3))
    );
    let types: Vec<&str> = table["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["text", "integer", "text", "real", "text", "null"]);
    assert_eq!(table["columns"][2]["example"], "007");
    assert_eq!(table["skipped"]["count"], 1);
    assert_eq!(table["skipped"]["shown"][0]["line"], 5);
    let rows = files.rows(
        "select region, sum(amount), group_concat(code), sum(share), min(note), count(empty) \
         from sales_2024 group by region order by 2 desc",
    );
    assert_eq!(
        rows,
        json!([
            ["south", 20, "8", 1.0, "x", 0],
            ["north", 5, "007,9", 0.5, "12", 0]
        ])
    );
}

#[test]
fn objects_become_rows_whatever_their_fields() {
    let lines = "{\"id\": 1, \"ok\": true, \"tags\": [\"a\", \"b\"], \"use\": {\"in\": 5}}\n\
                 not json\n\
                 {\"late\": \"x\", \"id\": 2.5, \"use\": {\"in\": 7}}\n[1]\n";
    let array = format!(
        "\u{feff}[{}]",
        "{\"n\": 9007199254740993, \"v\": 0.5}, 7, {\"n\": 1.5}"
    );
    let files = Files::new(&[("a.jsonl", lines), ("b.json", &array)]);
    let told =
        files.ask("SELECT id, ok, tags, \"use\" ->> '$.in' AS used, late FROM a ORDER BY id");
    let told = told.unwrap();
    assert_eq!(
        told["rows"],
        json!([
            [1.0, 1, "[\"a\",\"b\"]", 5, null],
            [2.5, null, null, 7, "x"]
        ])
    );
    assert_eq!(
        told["columns"][3],
        json!({ "name": "used", "type": "integer" })
    );
    assert_eq!(told["tables"][0]["skipped"]["count"], 2);
    // A number that a decimal one would not hold makes the column text.
    assert_eq!(
        files.rows("SELECT n, v FROM b"),
        json!([["9007199254740993", 0.5], ["1.5", null]])
    );
    assert_eq!(told["tables"][1]["skipped"]["shown"][0]["line"], 2);
    assert_eq!(
        files.rows("SELECT value FROM a, json_each(a.tags) ORDER BY 1"),
        json!([["a"], ["b"]])
    );
}

#[test]
fn what_is_too_long_is_cut_and_said() {
    let mut csv = String::from("n\ttext\n");
    for n in 0..2_000 {
        csv.push_str(&format!("{n}\t{}\n", "é".repeat(20)));
    }
    let files = Files::new(&[("a.tsv", &csv)]);
    let told = files.ask("SELECT * FROM a ORDER BY n").unwrap();
    assert_eq!(
        (&told["row_count"], &told["truncated"]),
        (&json!(100), &json!(true))
    );
    assert_eq!(told["rows"][99][0], 99);
    let whole = files.run(
        "sql_query",
        json!({ "query": "SELECT * FROM a LIMIT 7", "max_rows": 7 }),
    );
    assert_eq!(whole.unwrap()["truncated"], false);
    let wide = files.run(
        "sql_query",
        json!({ "query": "SELECT group_concat(text, '') AS t FROM a GROUP BY n / 100", "max_rows": 1000 }),
    );
    let wide = wide.unwrap();
    assert!(wide["row_count"].as_u64().unwrap() < 20 + 1);
    assert_eq!(wide["cut_cells"], wide["row_count"]);
    assert!(wide["rows"][0][0].as_str().unwrap().ends_with('…'));
    // An answer without an end is cut as any other.
    let endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t";
    assert_eq!(files.ask(endless).unwrap()["row_count"], 100);
}

#[test]
fn a_wide_table_of_long_names_is_loaded_and_told_in_part() {
    let header: Vec<String> = (0..500)
        .map(|n| format!("{}{n}", "\u{e9}".repeat(300)))
        .collect();
    let cells = vec!["\u{10348}".repeat(100); 500].join(",");
    let wide = format!("{}\n{cells}\n", header.join(","));
    let files = Files::new(&[("sqlite_wide.csv", &wide), ("b.csv", &wide)]);
    let told = files.ask("SELECT * FROM _sqlite_wide").unwrap_err();
    assert!(told.message.contains("at most 150"), "{told}");
    let names = &files.run("sql_query", json!({})).unwrap()["tables"][0];
    let (shown, left_out) = (&names["columns"], &names["columns_left_out"]);
    let shown = shown.as_array().unwrap();
    assert_eq!(
        shown.len() as u64 + left_out.as_u64().unwrap(),
        500,
        "{names}"
    );
    let some: Vec<&str> = shown
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    let told = files.ask(&format!("SELECT {} FROM b", some.join(", ")));
    let told = told.unwrap();
    assert_eq!(told["columns"].as_array().unwrap().len(), some.len());
    assert!(told.to_string().len() < 100_000);
}

#[test]
fn the_whole_answer_is_saved_as_csv() {
    let files = Files::new(&[("sales.csv", SALES)]);
    let arguments = json!({
        "query": "SELECT region, note, amount * 0.5 AS half FROM sales", "max_rows": 1, "save_as": "../half.csv",
    });
    let told = files.run("sql_query", arguments).unwrap();
    assert_eq!(
        (&told["truncated"], &told["saved_rows"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(
        (&told["name"], &told["media_type"]),
        (&json!("half.csv"), &json!("text/csv"))
    );
    assert_eq!(
        told["content"],
        "region,note,half\r\nnorth,\"a, \"\"b\"\"\",5.0\r\nsouth,x,10.0\r\nnorth,12,-2.5\r\n"
    );
    let large = json!({
        "query": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n, hex(zeroblob(500)) FROM t",
        "save_as": "x",
    });
    let error = files.run("sql_query", large).unwrap_err();
    assert!(error.message.contains("as CSV"), "{error}");
}

#[test]
fn a_query_may_only_read_what_is_loaded() {
    let files = Files::new(&[("sales.csv", SALES)]);
    for (query, words) in [
        ("ATTACH '/etc/passwd' AS x", "ATTACH is not allowed"),
        (
            "PRAGMA hard_heap_limit = 0",
            "PRAGMA hard_heap_limit is not allowed",
        ),
        ("SELECT * FROM pragma_table_info('sales')", "is not allowed"),
        ("SELECT * FROM dbstat", "is not allowed"),
        ("SELECT load_extension('x')", "is not allowed"),
        ("INSERT INTO sales (amount) VALUES (1)", "changes something"),
        ("UPDATE sales SET amount = 0", "changes something"),
        ("DELETE FROM sales", "changes something"),
        ("DROP TABLE sales", "changes something"),
        ("CREATE TEMP TABLE t (a)", "changes something"),
        ("CREATE VIRTUAL TABLE t USING fts5(a)", "changes something"),
        ("VACUUM INTO '/tmp/x'", "no SELECT"),
        ("BEGIN", "a transaction is not allowed"),
        ("SELECT 1; DROP TABLE sales", "changes something"),
        ("SELECT 1; SELECT 2", "one statement"),
        (
            "SELECT writefile('/tmp/x', 'y')",
            "no such function: writefile",
        ),
        ("-- nothing", "no SELECT"),
    ] {
        let refusal = files.refusal(query);
        assert!(refusal.contains(words), "{query}: {refusal}");
    }
    assert_eq!(files.rows("SELECT count(*) FROM sales"), json!([[3]]));
    let part = "WITH t AS MATERIALIZED (SELECT amount FROM sales) SELECT count(*) FROM t AS u";
    assert_eq!(files.rows(part), json!([[3]]));
    let tables = files.refusal("SELECT count(*) FROM pragma_table_list");
    assert!(tables.contains("not allowed"), "{tables}");
    assert_eq!(
        files.rows("SELECT name FROM sqlite_schema"),
        json!([["sales"]])
    );
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_there_is() {
    let files = Files::new(&[("sales.csv", SALES)]);
    for (query, words) in [
        (
            "SELECT amont\nFROM sales",
            "no such column: amont (line 1, column 8",
        ),
        ("SELECT amount\nFORM sales", "line 2, column 6"),
        ("SELECT 1 FROM sale", "no such table: sale"),
        ("SELECT sum(amount", "incomplete input"),
        ("SELECT zeroblob(100000000)", "too big"),
    ] {
        let refusal = files.refusal(query);
        assert!(refusal.contains(words), "{query}: {refusal}");
        assert!(
            refusal.contains("There are: sales(region text, amount integer"),
            "{refusal}"
        );
    }
    let deep = format!("SELECT {}1{}", "(1+".repeat(300), ")".repeat(300));
    assert!(files.refusal(&deep).contains("depth"), "{deep}");
    let none = Files::new::<&str>(&[]);
    assert!(none.refusal("SELECT a FROM b").contains("name files"));
    assert_eq!(none.rows("SELECT 1 + 1"), json!([[2]]));
}

#[test]
fn files_that_are_no_tables_are_refused_by_name() {
    let many = (0..600)
        .map(|n| format!("c{n}"))
        .collect::<Vec<_>>()
        .join(",");
    for (content, words) in [
        ("", "is empty"),
        ("PK\u{3}\u{4}zip", "a ZIP archive"),
        (
            "{\"a\": \n 1",
            "no rows that can be read: record 1: not JSON",
        ),
        ("[{\"a\": 1}, {\"a\":", "no whole JSON array"),
        ("[]", "no rows"),
        (&many, "more than 500 columns"),
    ] {
        let files = Files::new(&[("x.csv", content)]);
        let error = files.ask("SELECT 1").unwrap_err();
        assert!(error.message.starts_with("x.csv"), "{error}");
        assert!(error.message.contains(words), "{words}: {error}");
    }
    let nine: Vec<(&str, &str)> = (0..9).map(|_| ("x.csv", "a\n1\n")).collect();
    assert!(
        Files::new(&nine)
            .ask("SELECT 1")
            .unwrap_err()
            .message
            .contains("at most 8")
    );
    let long = Files::new(&[("x.json", "\u{feff}{\n\"a\": 1\n}\n{\n\"a\": 2\n}\n")]);
    assert_eq!(long.rows("SELECT sum(a) FROM x"), json!([[3]]));
    let twice = Files::new(&[("x.csv", "a\n1\n"), ("X.json", "{\"order\": 2}\n")]);
    assert_eq!(
        twice.rows("SELECT a, \"order\" FROM x, x_2"),
        json!([[1, 2]])
    );
}

#[test]
fn a_query_without_an_end_ends_in_time() {
    let files = Files::new(&[("sales.csv", SALES)]);
    let query =
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t";
    let outcome = jobs::run(
        "sql_query",
        json!({ "query": query }),
        &files.inputs,
        Duration::from_millis(100),
        &mut |_, _| (),
    );
    assert!(outcome.unwrap_err().message.contains("longer than 100 ms"));
}

#[test]
fn charts_of_given_rows_and_of_queries() {
    let files = Files::new(&[("sales.csv", SALES)]);
    let days = json!([
        { "day": "2024-01-01", "in": 5, "out": 2.5 },
        { "day": "2024-01-02", "in": 9, "out": null },
        { "day": "2024-01-03", "in": -3, "out": 1 },
    ]);
    for (arguments, points, left_out, words) in [
        (
            json!({ "kind": "line", "data": days, "x": "day", "y": ["in", "out"], "title": "A & <b>" }),
            5,
            1,
            "in is highest with 9 at 2024-01-02T00:00:00Z",
        ),
        (
            json!({ "kind": "area", "data": days, "x": "day", "y": "in" }),
            3,
            0,
            "in by day",
        ),
        (
            json!({ "kind": "scatter", "data": days, "x": "in", "y": "out" }),
            2,
            1,
            "at 5",
        ),
        (
            json!({ "kind": "bar", "query": "SELECT region, sum(amount) AS s FROM sales GROUP BY 1", "x": "region", "y": "s" }),
            2,
            0,
            "north 5; south 20",
        ),
        (
            json!({ "kind": "histogram", "query": "SELECT amount FROM sales", "x": "amount" }),
            3,
            0,
            "3 values",
        ),
    ] {
        let drawn = files.run("make_chart", arguments.clone()).unwrap();
        let alt = drawn["alt"].as_str().unwrap();
        assert_eq!(
            (&drawn["points"], &drawn["left_out"]),
            (&json!(points), &json!(left_out)),
            "{alt}"
        );
        assert!(alt.contains(words), "{alt}");
        assert_eq!(drawn["media_type"], "image/svg+xml");
        let svg = drawn["content"].as_str().unwrap();
        assert!(svg.starts_with("<svg role=\"img\""), "{svg}");
        assert!(!svg.contains("NaN") && lies_within(svg), "{svg}");
        // Where there are numbers there are labels for them.
        assert!(svg.matches("<text").count() > 3, "{svg}");
    }
}

#[test]
fn a_picture_carries_no_words_that_act() {
    let hostile = "</text><script>alert(1)</script><image href=\"https://x.test/\" onload='y()'/>";
    let files = Files::new::<&str>(&[]);
    for kind in ["line", "area", "scatter", "bar", "histogram"] {
        let mut row = serde_json::Map::new();
        row.insert(
            "x".into(),
            if kind == "bar" {
                json!(hostile)
            } else {
                json!(1)
            },
        );
        row.insert(hostile.into(), json!(2));
        let mut arguments = json!({
            "kind": kind, "title": hostile, "name": hostile, "data": [row, {}],
            "x": if kind == "histogram" { hostile } else { "x" },
        });
        if kind != "histogram" {
            arguments["y"] = json!(["x", hostile][1..]);
        }
        let drawn = files.run("make_chart", arguments).unwrap();
        let svg = drawn["content"].as_str().unwrap();
        for active in ["<script", "<image", "<a ", "<foreignObject", "onload='"] {
            assert!(!svg.contains(active), "{kind}: {active} in {svg}");
        }
        assert!(svg.contains("&lt;script&gt;"), "{kind}: {svg}");
        let name = drawn["name"].as_str().unwrap();
        assert!(!name.contains(['/', '<', '"']), "{name}");
    }
}

#[test]
fn what_cannot_be_drawn_is_told() {
    let files = Files::new(&[("sales.csv", SALES)]);
    let rows = |n: usize| json!(vec![json!({ "a": 1, "b": "x" }); n]);
    for (arguments, words) in [
        (
            json!({ "kind": "line", "x": "a", "y": "b" }),
            "either data or a query",
        ),
        (
            json!({ "kind": "line", "data": rows(1), "x": "z", "y": "a" }),
            "no column \"z\"; the columns are: a, b",
        ),
        (
            json!({ "kind": "line", "data": rows(1), "x": "a" }),
            "needs y",
        ),
        (
            json!({ "kind": "line", "data": rows(1), "x": "b", "y": "a" }),
            "has \"x\" in row 1; for names use a bar chart",
        ),
        (
            json!({ "kind": "line", "data": rows(1), "x": "a", "y": "b" }),
            "\"b\" is no number in row 1",
        ),
        (
            json!({ "kind": "histogram", "data": rows(1), "x": "a", "y": "a" }),
            "has no y",
        ),
        (
            json!({ "kind": "bar", "data": rows(61), "x": "b", "y": "a" }),
            "more than 60 rows",
        ),
        (
            json!({ "kind": "line", "data": [{ "a": null, "b": 1 }], "x": "a", "y": "b" }),
            "no row has both",
        ),
        (
            json!({ "kind": "line", "query": "SELECT * FROM sales WHERE 0", "x": "a", "y": "b" }),
            "no rows to draw",
        ),
        (
            json!({ "kind": "line", "query": "SELECT nope", "x": "a", "y": "b" }),
            "no such column: nope",
        ),
        (
            json!({
                "kind": "histogram", "x": "n",
                "query": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t",
            }),
            "more than 100000 rows",
        ),
    ] {
        let error = files.run("make_chart", arguments).unwrap_err();
        assert_eq!(error.code, Code::InvalidInput);
        assert!(error.message.contains(words), "{words}: {error}");
    }
}

/// Every number that JSON has, large and small ones as often as others.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        -1e3..1e3,
        any::<f64>().prop_filter("finite", |number| number.is_finite()),
        Just(0.0),
        (-50_i32..50).prop_map(f64::from),
    ]
}

/// The values of an attribute, wherever it stands in a picture.
fn attributes<'a>(svg: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!(" {name}=\"");
    let parts = svg.split(begin.as_str()).skip(1);
    parts.map(|part| part.split('"').next().unwrap()).collect()
}

/// Whether all that is drawn lies within the picture.
fn lies_within(svg: &str) -> bool {
    let one = |name| attributes(svg, name)[0].parse::<f64>().unwrap();
    let (width, height) = (one("width"), one("height"));
    let inside = |text: &str, size: f64| (0.0..=size).contains(&text.parse::<f64>().unwrap());
    let all = |names: [&str; 2], size| {
        let mut values = names.iter().flat_map(|name| attributes(svg, name));
        values.all(|value| inside(value, size))
    };
    let places = attributes(svg, "points");
    let mut places = places.iter().flat_map(|list| list.split_whitespace());
    let placed = places.all(|place| {
        let (x, y) = place.split_once(',').unwrap();
        inside(x, width) && inside(y, height)
    });
    all(["x", "cx"], width) && all(["y", "cy"], height) && placed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever stands in a file: what is read is read without a loss, and the rest is said.
    #[test]
    fn any_file_is_a_table_or_a_refusal(content in r#"[\[{]?(["a-c]{0,3}[,;:\t\n\r{}\[\]]|-?[0-9]{1,20}|0\.[0-9]{1,3}|"a":){0,40}"#) {
        let files = Files::new(&[("any.csv", &content)]);
        match files.run("sql_query", json!({ "query": "SELECT count(*) FROM \"any\"" })) {
            Ok(told) => prop_assert_eq!(&told["rows"][0][0], &told["tables"][0]["rows"]),
            Err(error) => prop_assert_ne!(error.code, Code::Internal, "{}", error.message),
        }
    }

    #[test]
    fn a_cell_comes_back_as_it_was(cell in "[-0-9.e]{1,8}|[a-z ]{1,5}|-?[0-9]{15,20}") {
        let files = Files::new(&[("t.csv", &format!("a\n{cell}\n"))]);
        let found = files.rows("SELECT a FROM t")[0][0].clone();
        match &found {
            Value::String(text) => prop_assert_eq!(text, &cell),
            Value::Null => prop_assert_eq!(cell.trim(), ""),
            number => prop_assert_eq!(number.as_f64(), cell.trim().parse().ok()),
        }
    }

    #[test]
    fn any_numbers_make_a_picture(rows in proptest::collection::vec((number(), number(), proptest::option::of(number())), 1..30)) {
        let files = Files::new::<&str>(&[]);
        let data: Vec<Value> = rows.iter().map(|(x, y, z)| json!({ "x": x, "y": y, "z": z })).collect();
        for kind in ["line", "area", "scatter", "bar", "histogram"] {
            let mut arguments = json!({ "kind": kind, "data": data, "x": "x" });
            if kind != "histogram" {
                arguments["y"] = json!(["y", "z"]);
            }
            match files.run("make_chart", arguments) {
                Ok(drawn) => {
                    let svg = drawn["content"].as_str().unwrap();
                    prop_assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", svg);
                    prop_assert!(lies_within(svg), "{} {}", kind, svg);
                }
                Err(error) => prop_assert_eq!(error.code, Code::InvalidInput, "{}", error.message),
            }
        }
    }
}
