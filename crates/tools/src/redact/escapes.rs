//! Texts as they were before somebody escaped them: for JSON and its like, for URLs, for HTML, for a shell. All kinds are
//! read at once, so that it does not matter which of them a text mixes.

use std::borrow::Cow;

/// What the beginning of a text says.
enum Read {
    /// These bytes, in so many of the text.
    Escape([u8; 4], usize, usize),
    /// Itself.
    Plain,
    /// The text was cut within an escape.
    Cut,
}

impl Read {
    fn byte(byte: u8, said_in: usize) -> Self {
        Self::Escape([byte, 0, 0, 0], 1, said_in)
    }

    fn char(code: u32, said_in: usize) -> Self {
        let Some(char) = char::from_u32(code) else {
            return Self::Plain;
        };
        let mut bytes = [0; 4];
        let len = char.encode_utf8(&mut bytes).len();
        Self::Escape(bytes, len, said_in)
    }
}

/// The text with one layer of escapes taken off; none where it has no escapes.
pub(super) fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let first = text.iter().position(|byte| b"\\%&+".contains(byte))?;
    let mut bare = Vec::with_capacity(text.len());
    bare.extend(&text[..first]);
    walk(&text[first..], |_, bytes| bare.extend(bytes));
    (bare != text).then_some(bare)
}

/// For each byte of the text with so many layers of escapes taken off, where it begins in the text; at last, where the
/// text ends.
pub(super) fn origins(text: &[u8], layers: usize) -> Vec<usize> {
    let mut origins: Vec<usize> = (0..=text.len()).collect();
    let mut text = Cow::Borrowed(text);
    for _ in 0..layers {
        let (mut bare, mut begins) = (Vec::new(), Vec::new());
        walk(&text, |at, bytes| {
            bare.extend(bytes);
            begins.extend(bytes.iter().map(|_| origins[at]));
        });
        begins.push(origins[text.len()]);
        (text, origins) = (Cow::Owned(bare), begins);
    }
    origins
}

/// Goes through the text, and tells where each of its bytes or escapes begins, and what it says.
fn walk(text: &[u8], mut tell: impl FnMut(usize, &[u8])) {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let after = &text[at + 1..];
        let read = match byte {
            b'\\' => of_backslash(after),
            b'%' => number(after, 2, 16).map_or_else(|cut| cut, |code| in_byte(code, 3)),
            b'&' => of_ampersand(after),
            // As forms write a space. A plus is looked for as a space too.
            b'+' => Read::byte(b' ', 1),
            _ => Read::Plain,
        };
        match read {
            Read::Escape(bytes, len, said_in) => {
                tell(at, &bytes[..len]);
                at += said_in;
            }
            Read::Plain => {
                tell(at, &[*byte]);
                at += 1;
            }
            Read::Cut => return,
        }
    }
}

/// The number that so many digits say.
fn number(text: &[u8], digits: usize, radix: u32) -> Result<u32, Read> {
    let said = text.iter().take(digits).map(|byte| char::from(*byte));
    let mut number = 0;
    for digit in said {
        let digit = digit.to_digit(radix).ok_or(Read::Plain)?;
        number = number * radix + digit;
    }
    if text.len() < digits {
        return Err(Read::Cut);
    }
    Ok(number)
}

fn in_byte(code: u32, said_in: usize) -> Read {
    u8::try_from(code).map_or(Read::Plain, |byte| Read::byte(byte, said_in))
}

fn of_backslash(after: &[u8]) -> Read {
    let Some(sign) = after.first() else {
        return Read::Cut;
    };
    match sign {
        b'n' => Read::byte(b'\n', 2),
        b'r' => Read::byte(b'\r', 2),
        b't' => Read::byte(b'\t', 2),
        b'u' => of_utf_16(&after[1..]).unwrap_or_else(|other| other),
        b'x' => number(&after[1..], 2, 16).map_or_else(|other| other, |code| in_byte(code, 4)),
        b'0'..=b'3' => number(after, 3, 8).map_or_else(|other| other, |code| in_byte(code, 4)),
        b' ' => Read::byte(b' ', 2),
        sign if sign.is_ascii_punctuation() => Read::byte(*sign, 2),
        _ => Read::Plain,
    }
}

/// Four hexadecimal digits, or two times four for what lies beyond them.
fn of_utf_16(text: &[u8]) -> Result<Read, Read> {
    let high = number(text, 4, 16)?;
    if !(0xD800..0xDC00).contains(&high) {
        return Ok(Read::char(high, 6));
    }
    let after = &text[4..];
    if after.len() < 2 && b"\\u".starts_with(after) {
        return Err(Read::Cut);
    }
    let low = after.strip_prefix(b"\\u").ok_or(Read::Plain)?;
    let low = number(low, 4, 16)?;
    match (0xDC00..0xE000).contains(&low) {
        true => Ok(Read::char(
            0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00),
            12,
        )),
        false => Err(Read::Plain),
    }
}

/// The longest that may stand between `&` and `;`.
const MAX_NAME: usize = 8;

fn of_ampersand(after: &[u8]) -> Read {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'#';
    let length = after
        .iter()
        .take(MAX_NAME + 1)
        .take_while(|byte| is_of_name(byte))
        .count();
    match after.get(length) {
        None if length <= MAX_NAME => return Read::Cut,
        Some(b';') => {}
        _ => return Read::Plain,
    }
    let name = &after[..length];
    let code = match name {
        [b'#', b'x' | b'X', digits @ ..] => number(digits, digits.len().max(1), 16).ok(),
        [b'#', digits @ ..] => number(digits, digits.len().max(1), 10).ok(),
        name => named(name),
    };
    code.map_or(Read::Plain, |code| Read::char(code, length + 2))
}

/// What HTML calls this.
fn named(name: &[u8]) -> Option<u32> {
    let name = std::str::from_utf8(name).ok()?;
    let is = |(known, _): &&(&str, char)| *known == name;
    let latin = || LATIN.split(' ').position(|known| known == name);
    let punctuation = PUNCTUATION
        .iter()
        .find(is)
        .map(|(_, sign)| u32::from(*sign));
    punctuation.or_else(|| u32::try_from(0xA0 + latin()?).ok())
}

const PUNCTUATION: [(&str, char); 37] = [
    ("quot", '"'),
    ("amp", '&'),
    ("apos", '\''),
    ("lt", '<'),
    ("gt", '>'),
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("excl", '!'),
    ("num", '#'),
    ("dollar", '$'),
    ("percnt", '%'),
    ("lpar", '('),
    ("rpar", ')'),
    ("ast", '*'),
    ("plus", '+'),
    ("comma", ','),
    ("period", '.'),
    ("sol", '/'),
    ("colon", ':'),
    ("semi", ';'),
    ("equals", '='),
    ("quest", '?'),
    ("commat", '@'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("bsol", '\\'),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("Hat", '^'),
    ("lowbar", '_'),
    ("grave", '`'),
    ("lcub", '{'),
    ("lbrace", '{'),
    ("verbar", '|'),
    ("vert", '|'),
    ("rcub", '}'),
    ("rbrace", '}'),
];

/// From U+00A0 to U+00FF.
const LATIN: &str = "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 \
    sup3 acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring \
    AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times \
    Oslash Ugrave Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute \
    ecirc euml igrave iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc \
    uuml yacute thorn yuml";

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(text: &str) -> String {
        let bare = unescaped(text.as_bytes());
        bare.map_or_else(|| text.to_owned(), |bare| String::from_utf8(bare).unwrap())
    }

    #[test]
    fn every_kind_of_escape_is_taken_off() {
        for (escaped, was) in [
            (r#"a\"b\\c\/d\u00e9\u00E9\ud83d\ude00"#, "a\"b\\c/déé😀"),
            ("a%2Fb%2fc%C3%A9+d", "a/b/cé d"),
            (
                "a&quot;b&amp;c&#39;d&#x27;e&eacute;&yuml;&sol;",
                "a\"b&c'd'eéÿ/",
            ),
            (r"\303\251 \x41 \$x\ y", "é A $x y"),
            (
                r"\w %zz &nothing; &#xD800; \ud83dx",
                r"\w %zz &nothing; &#xD800; \ud83dx",
            ),
            ("plain", "plain"),
        ] {
            assert_eq!(bare(escaped), was, "{escaped}");
        }
    }

    #[test]
    fn a_text_that_was_cut_within_an_escape_ends_before_it() {
        for cut in ["\\", "\\u00", "\\ud83d\\", "%", "%2", "&", "&quo", "&#x2"] {
            assert_eq!(bare(&format!("ab{cut}")), "ab", "{cut}");
        }
    }

    #[test]
    fn each_byte_knows_where_it_came_from() {
        let text = br"a\\u00e9%41b\";
        assert_eq!(origins(text, 1), [0, 1, 3, 4, 5, 6, 7, 8, 11, 13]);
        assert_eq!(origins(text, 2), [0, 1, 1, 8, 11, 13]);
    }
}
