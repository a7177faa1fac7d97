//! Parquet and other forms of the same log give the same numbers; hostile files give an error in words.

use std::sync::Arc;
use std::time::Duration;

use netra_analytics::jobs::{self, Code, InputFile};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::files::{Files, TIME};
use crate::traffic::{Row, csv, traffic};

const SCHEMA: &str = "message log {
    required int64 timestamp (TIMESTAMP(MICROS, true));
    optional binary model (STRING);
    optional binary user (STRING);
    required int32 prompt_tokens;
    required int32 completion_tokens;
    optional double latency_ms;
    optional group tags (LIST) { repeated group list { optional binary element (STRING); } }
}";

/// The rows as Parquet, in row groups of a thousand.
fn parquet(rows: &[Row], compression: Compression) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(1_000) {
        let mut group = writer.next_row_group().unwrap();
        let all = vec![1_i16; rows.len()];
        let mut index = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            let text = |pick: fn(&Row) -> &str| -> Vec<ByteArray> {
                rows.iter().map(|r| ByteArray::from(pick(r))).collect()
            };
            match index {
                0 => {
                    let times: Vec<i64> = rows.iter().map(|r| r.second * 1_000_000).collect();
                    column.typed::<Int64Type>().write_batch(&times, None, None)
                }
                1 => column.typed::<ByteArrayType>().write_batch(
                    &text(|r| r.model),
                    Some(&all),
                    None,
                ),
                2 => column.typed::<ByteArrayType>().write_batch(
                    &text(|r| &r.user),
                    Some(&all),
                    None,
                ),
                3 => {
                    let tokens: Vec<i32> = rows.iter().map(|r| r.input.cast_signed()).collect();
                    column.typed::<Int32Type>().write_batch(&tokens, None, None)
                }
                4 => {
                    let tokens: Vec<i32> = rows.iter().map(|r| r.output.cast_signed()).collect();
                    column.typed::<Int32Type>().write_batch(&tokens, None, None)
                }
                5 => {
                    let times: Vec<f64> = rows.iter().map(|r| r.latency).collect();
                    column
                        .typed::<DoubleType>()
                        .write_batch(&times, Some(&all), None)
                }
                _ => {
                    let none = vec![0_i16; rows.len()];
                    column
                        .typed::<ByteArrayType>()
                        .write_batch(&[], Some(&none), Some(&none))
                }
            }
            .unwrap();
            column.close().unwrap();
            index += 1;
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// What the profile says, without what tells the forms of a file apart.
fn profile(files: &Files) -> Value {
    let mut told = files.run("log_profile", json!({})).unwrap();
    for field in ["file", "format"] {
        told.as_object_mut().unwrap().remove(field);
    }
    told
}

#[test]
fn a_parquet_log_gives_the_numbers_of_the_same_csv() {
    let rows = traffic(5);
    assert!(rows.len() > 1_000, "more than one row group");
    let wanted = profile(&Files::new(&[("log.csv", &csv(&rows))]));
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(Default::default()),
    ] {
        let files = Files::new(&[("log.parquet", parquet(&rows, compression))]);
        let told = profile(&files);
        for (field, value) in wanted.as_object().unwrap() {
            assert_eq!(&told[field], value, "{field} by {compression:?}");
        }
        let look = files.run("log_inspect", json!({})).unwrap();
        assert_eq!(look["format"], "parquet");
        assert_eq!(look["unmapped"][0]["header"], "tags.list.element");
        assert!(
            look["unmapped"][0]["reason"]
                .as_str()
                .unwrap()
                .contains("list")
        );
        let latency = files.run("latency_drivers", json!({})).unwrap();
        assert_eq!(latency["latency_ms"], told["latency_ms"]);
    }
}

#[test]
fn files_of_other_writers_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for name in ["pyarrow.parquet", "polars.parquet"] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let told = Files::new(&[(name, &bytes)])
            .run("log_profile", json!({}))
            .unwrap();
        assert_eq!(told["rows"], 4, "{name}: {told}");
        assert_eq!(told["bad_rows"]["count"], 0, "{name}: {told}");
        assert_eq!(told["first_ts"], "2024-05-06T10:00:00.250000Z", "{name}");
        assert_eq!(told["last_ts"], "2024-05-06T10:03:00Z", "{name}");
        assert_eq!(told["input_tokens"]["total"], 10_000, "{name}");
        assert_eq!(told["by_model"]["distinct"], 2, "{name}");
        assert_eq!(
            told["by_model"]["rest"]["requests"], 1,
            "{name}: one row has no model"
        );
        assert_eq!(told["logged_cost_usd"], 0.0625, "{name}: a decimal column");
        assert_eq!(told["latency_ms"]["max"], 1_500.5, "{name}");
    }
}

#[test]
fn spans_are_read_as_lines_as_one_document_and_as_an_array() {
    let span = |n: u64| {
        json!({
            "traceId": format!("{n:032x}"), "name": "chat alpha", "startTimeUnixNano": (1_714_989_600 + n * 60) * 1_000_000_000,
            "endTimeUnixNano": (1_714_989_600 + n * 60) * 1_000_000_000 + 1_500_000_000, "attributes": [
                { "key": "gen_ai.operation.name", "value": { "stringValue": "chat" } },
                { "key": "gen_ai.request.model", "value": { "stringValue": "alpha" } },
                { "key": "gen_ai.usage.input_tokens", "value": { "intValue": (100 + n).to_string() } },
                { "key": "gen_ai.usage.output_tokens", "value": { "intValue": "10" } },
            ],
        })
    };
    let other =
        json!({ "name": "GET /", "startTimeUnixNano": "1714989600000000000", "attributes": [] });
    let spans: Vec<Value> = (0..20).map(span).chain([other]).collect();
    let export = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] });
    let lines: String = spans.iter().map(|span| format!("{span}\n")).collect();
    let pretty = serde_json::to_string_pretty(&export).unwrap();
    for (name, text) in [
        ("export.jsonl", format!("{export}\n")),
        ("export.json", pretty.clone()),
        ("two.json", format!("\u{feff}{pretty}\n")),
        ("array.json", serde_json::to_string_pretty(&spans).unwrap()),
        ("exports.json", format!("[{export}]")),
        ("spans.jsonl", lines),
    ] {
        let told = Files::new(&[(name, &text)])
            .run("log_profile", json!({}))
            .unwrap();
        assert_eq!(
            (told["rows"].as_u64(), told["other_rows"].as_u64()),
            (Some(20), Some(1)),
            "{name}"
        );
        assert_eq!(told["kind"], "otel_genai", "{name}");
        assert_eq!(
            told["input_tokens"]["total"],
            (100..120).sum::<u64>(),
            "{name}"
        );
        assert_eq!(told["latency_ms"]["p50"], 1_500.0, "{name}");
        assert_eq!(told["first_ts"], "2024-05-06T10:00:00Z", "{name}");
    }
    // What is cut off in the middle keeps what came before, and says so.
    let cut = &pretty[..pretty.len() / 2];
    let array = serde_json::to_string(&spans).unwrap();
    let told = Files::new(&[("cut.json", &array[..array.len() / 2])])
        .run("log_profile", json!({}))
        .unwrap();
    assert!(told["rows"].as_u64().unwrap() >= 8);
    assert!(
        told["bad_rows"]["shown"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("not whole JSON")
    );
    assert!(
        Files::new(&[("cut.json", cut)])
            .run("log_profile", json!({}))
            .is_err()
    );
}

#[test]
fn hostile_parquet_is_refused_in_words() {
    let good = parquet(&traffic(1), Compression::SNAPPY);
    let footer = |length: u32| {
        let mut bytes = b"PAR1".to_vec();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(b"PAR1");
        bytes
    };
    let mut no_end = good.clone();
    no_end.truncate(good.len() / 2);
    for (name, bytes) in [
        ("magic only", b"PAR1".to_vec()),
        ("nothing between", footer(0)),
        ("a footer longer than the file", footer(u32::MAX)),
        ("cut off", no_end),
        (
            "encrypted",
            [b"PAR1".as_slice(), &[0; 64], b"PARE"].concat(),
        ),
        (
            "zeros",
            [b"PAR1".as_slice(), &vec![0; 100_000], b"PAR1"].concat(),
        ),
    ] {
        let error = Files::new(&[("bad.parquet", &bytes)])
            .run("log_profile", json!({}))
            .unwrap_err();
        assert_eq!(error.code, Code::UnreadableFile, "{name}: {error}");
        assert!(error.message.contains("Parquet"), "{name}: {error}");
    }
    assert!(
        Files::new(&[("log.parquet", &good)])
            .run("log_profile", json!({}))
            .is_ok()
    );
}

/// A file of one column that holds one text over and over: small on the disk, large when it is unpacked.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let schema = "message log { required int32 prompt_tokens; required int32 completion_tokens; required binary prompt (STRING); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for _ in 0..2 {
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int32Type>()
            .write_batch(&vec![1; mebibytes], None, None)
            .unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    let text = ByteArray::from(vec![b'a'; 1 << 20]);
    for _ in 0..mebibytes {
        column
            .typed::<ByteArrayType>()
            .write_batch(std::slice::from_ref(&text), None, None)
            .unwrap();
    }
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn a_bomb_is_refused_by_what_it_says_of_itself() {
    let bytes = bomb(600);
    assert!(bytes.len() < 1 << 20, "600 MiB in {} bytes", bytes.len());
    let error = Files::new(&[("bomb.parquet", &bytes)])
        .run("log_profile", json!({}))
        .unwrap_err();
    assert_eq!(error.code, Code::InvalidInput);
    assert!(error.message.contains("smaller row groups"), "{error}");
    // The same column is no harm where nobody reads it.
    let told = Files::new(&[("few.parquet", &bomb(3))])
        .run("log_profile", json!({}))
        .unwrap();
    assert_eq!(told["rows"], 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever is changed in a file: an answer or an error, and never an end of the process.
    #[test]
    fn damaged_parquet_never_ends_the_process(places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = parquet(&traffic(1)[..40], Compression::SNAPPY);
        for (place, byte) in places {
            let at = place.index(bytes.len() - 8) + 4;
            bytes[at] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, bytes).unwrap();
        let inputs = [InputFile { name: "log".into(), media_type: String::new(), path }];
        let _ = jobs::run("log_profile", json!({}), &inputs, Duration::min(TIME, Duration::from_secs(20)), &mut |_, _| ());
    }
}
