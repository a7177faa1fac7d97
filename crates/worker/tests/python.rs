//! The page PYTHON.md, checked: what of Python works in scripts, and what does not.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "probe/someone.rs"]
mod someone;

use netra_worker::{Config, Error, Limits, ScriptPool, Source, Step};
use serde_json::{Map, Value, json};
use someone::someone;

/// Runs a script that may call `tool`, which answers with its arguments.
async fn run(pool: &ScriptPool, code: &str) -> Result<Value, Error> {
    let source = Source {
        name: "page.py".to_owned(),
        code: code.to_owned(),
        inputs: Map::new(),
        functions: vec!["tool".to_owned()],
        keeps: None,
    };
    let mut script = pool
        .start(&someone(1), source, Limits::default())
        .await
        .unwrap();
    loop {
        match script.next().await? {
            Step::Call { args, kwargs, .. } => script.answer(Ok(json!([args, kwargs]))),
            Step::Printed(_) => {}
            Step::Finished(value) => return Ok(value),
            Step::Waiting(ids) => panic!("nothing was deferred: {ids:?}"),
        }
    }
}

fn pool() -> ScriptPool {
    ScriptPool::new(Config::new(env!("CARGO_BIN_EXE_netra-worker-probe")))
}

async fn works(examples: &[(&str, Value)]) {
    let pool = pool();
    for (code, expected) in examples {
        let found = run(&pool, code).await;
        assert_eq!(
            &found.unwrap_or_else(|error| panic!("{code}: {error}")),
            expected,
            "{code}"
        );
    }
}

#[tokio::test]
async fn the_language_that_the_page_says_works() {
    let examples = [
        ("return 1", json!(1)),
        ("x = 1", json!(null)),
        (
            "def f(*, a, b=1, **more):\n    return [a, b, more]\nf(a=1, c=2)",
            json!([1, 1, {"c": 2}]),
        ),
        (
            "class A:\n    def __init__(self):\n        self.x = 1\n    def __str__(self):\n        return f'A{self.x}'\nstr(A())",
            json!("A1"),
        ),
        (
            "class A:\n    def __iter__(self):\n        return iter([1, 2])\nlist(A())",
            json!([1, 2]),
        ),
        (
            "class A:\n    def __enter__(self):\n        return 3\n    def __exit__(self, *a):\n        return False\nwith A() as a:\n    b = a\nb",
            json!(3),
        ),
        (
            "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1\n    def double(self):\n        return self.x * 2\n[P().double(), P() == P(), P(3)]",
            json!([2, true, {"x": 3}]),
        ),
        (
            "def d(f):\n    return lambda *a: f(*a) + 1\n@d\ndef g(x):\n    return x\ng(1)",
            json!(2),
        ),
        ("a, *b = [1, 2, 3]\nb", json!([2, 3])),
        ("{**{'a': 1}, **{'b': 2}}", json!({"a": 1, "b": 2})),
        (
            "x = 0\ndef f():\n    global x\n    x += 1\nf()\nx",
            json!(1),
        ),
        (
            "x = 1234567.891\nf'{x:,.1f} {0.5:.1%} {\"a\"!r:>5} {x=:.0f}'",
            json!("1,234,567.9 50.0%   'a' x=1234568"),
        ),
        ("'{a} {b:.2f}'.format(a=1, b=2.5)", json!("1 2.50")),
        (
            "sorted([{'a': 1}, {'a': 2}], key=lambda r: -r['a'])",
            json!([{"a": 2}, {"a": 1}]),
        ),
        (
            "[min([], default=0), max([1, -3], key=abs), list(zip([1], [2], strict=True))]",
            json!([0, -3, [[1, 2]]]),
        ),
        ("[y for x in [1, 2] if (y := x * 2) > 2]", json!([4])),
        (
            "try:\n    int('x')\nexcept (ValueError, TypeError) as e:\n    r = type(e).__name__\nr",
            json!("ValueError"),
        ),
        (
            "def f(n):\n    return f(n + 1)\ntry:\n    f(0)\nexcept RecursionError:\n    r = 'caught'\nr",
            json!("caught"),
        ),
    ];
    works(&examples).await;
}

#[tokio::test]
async fn the_modules_and_values_that_the_page_says_work() {
    let examples = [
        (
            "import json\njson.dumps({'b': 1, 'a': [1]}, sort_keys=True)",
            json!("{\"a\": [1], \"b\": 1}"),
        ),
        (
            "import re\nre.sub(r'(\\w)', r'<\\1>', 'ab')",
            json!("<a><b>"),
        ),
        (
            "from datetime import datetime\ndatetime.strptime('2026-01-02', '%Y-%m-%d').strftime('%d %b')",
            json!("02 Jan"),
        ),
        (
            "from collections import Counter, defaultdict, deque, namedtuple\nnamedtuple('P', 'x y')(1, 2)",
            json!({"x": 1, "y": 2}),
        ),
        (
            "from functools import reduce, partial\nreduce(lambda a, b: a + b, [1, 2])",
            json!(3),
        ),
        (
            "from itertools import chain, islice, accumulate, zip_longest, count, repeat\nlist(chain([1], [2]))",
            json!([1, 2]),
        ),
        (
            "from typing import Any, Optional\nimport math, base64\nfrom pathlib import Path\n[math.ceil(1.2), Path('a/b.csv').suffix]",
            json!([2, ".csv"]),
        ),
        (
            "import asyncio\nasync def m():\n    return 3\nawait asyncio.gather(m(), m())",
            json!([3, 3]),
        ),
        ("[x for x in {'d', 'a', 'c'}]", json!(["d", "a", "c"])),
        (
            "[2 ** 100, float('inf'), (1, 2), {3: None}]",
            json!(["1267650600228229401496703205376", null, [1, 2], {"3": null}]),
        ),
        (
            "f = tool\nclass A:\n    def go(self):\n        return [(lambda: f(i))() for i in range(2)]\nA().go()",
            json!([[[0], {}], [[1], {}]]),
        ),
        (
            "tool(*[1, 2], **{'k': tool(3)})",
            json!([[1, 2], {"k": [[3], {}]}]),
        ),
    ];
    works(&examples).await;
}

#[tokio::test]
async fn what_the_page_says_does_not() {
    let fails = [
        "'%d' % 3",
        "format(1, '.2f')",
        "{'a': 1} | {'b': 2}",
        "d = {'a': 1}\ndel d['a']",
        "callable(len)",
        "class A:\n    pass\nclass B(A):\n    pass",
        "class E(Exception):\n    pass",
        "class A:\n    @property\n    def x(self):\n        return 1",
        "class A:\n    @staticmethod\n    def x():\n        return 1",
        "class A:\n    def __len__(self):\n        return 1\nlen(A())",
        "def g():\n    yield 1",
        "match 1:\n    case 1:\n        pass",
        "1j",
        "eval('1')",
        "input()",
        "await tool(1)",
        "list(map(tool, [1]))",
        "sorted([1, 2], key=lambda x: tool(x))",
        "from dataclasses import field",
        "from functools import lru_cache",
        "from itertools import groupby",
        "import time",
        "import random",
        "import statistics",
        "import decimal",
        "import enum",
        "import csv",
        "import copy",
        "import uuid",
        "import hashlib",
        "from datetime import datetime\ndatetime.now()",
        "open('x')",
        "tool(b'bytes')",
    ];
    let pool = pool();
    for code in fails {
        let outcome = run(&pool, code).await;
        assert!(
            matches!(outcome, Err(Error::Script(_))),
            "{code}: {outcome:?}"
        );
    }
}
