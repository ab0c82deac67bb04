//! What the values of a JSON text cost in memory, from the text alone: known before anything is parsed.

/// The memory that JSON and its texts occupy, in bytes for each byte of it.
pub(super) const MEMORY_PER_BYTE: u64 = 17;

/// The memory of a value beside that, in bytes, for each bracket that opens and for each comma. A list with one number in it takes 304
/// bytes, an object with one entry 384, an entry of an object that has just grown 570, while a message of a chat is read from it.
pub(super) const MEMORY_PER_VALUE: u64 = 512;

/// The cost of a text as it arrives. Behind an error in it, no parser reads on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct JsonCost {
    bytes: u64,
    values: u64,
    in_string: bool,
    /// Whether the last byte was a backslash in a string.
    is_escaped: bool,
}

impl JsonCost {
    /// Takes more of the text.
    pub(super) fn feed(&mut self, text: &[u8]) {
        self.bytes += text.len() as u64;
        for byte in text {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'[' | b'{' | b',' if !self.in_string => self.values += 1,
                _ => {}
            }
        }
    }

    /// The memory for the text and for its values, in bytes.
    pub(super) const fn memory(&self) -> u64 {
        self.bytes * MEMORY_PER_BYTE + self.values * MEMORY_PER_VALUE
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn cost(text: &str) -> JsonCost {
        let mut cost = JsonCost::default();
        cost.feed(text.as_bytes());
        cost
    }

    #[test]
    fn each_value_costs_and_what_stands_in_a_string_does_not() {
        for (text, values) in [
            ("7", 0),
            (r#"{"":0}"#, 1),
            ("[[],[0,0]]", 5),
            (r#"["[{,", "\"[", "\\", "\\\"{"]"#, 4),
            (r#"{"a":{"b":[1,2]},"c":"d"}"#, 5),
        ] {
            assert!(serde_json::from_str::<Value>(text).is_ok(), "{text}");
            assert_eq!(cost(text).values, values, "{text}");
            assert_eq!(cost(text).memory(), 17 * text.len() as u64 + 512 * values);
        }
    }

    #[test]
    fn the_cost_does_not_depend_on_how_the_text_arrives() {
        let text = r#"{"a\\":["\"",{"b":"[\\\",{"}],"c":[,,]}"#;
        for at in 0..=text.len() {
            let mut pieces = JsonCost::default();
            pieces.feed(&text.as_bytes()[..at]);
            pieces.feed(&text.as_bytes()[at..]);
            assert_eq!(pieces, cost(text), "{at}");
        }
    }

    #[test]
    fn the_smallest_list_and_object_fit_into_the_memory_of_a_value() {
        // The first element of a list takes room for four, the first entry of an object for three, each with a hash and its key.
        let (value, entry) = (size_of::<Value>() as u64, size_of::<(u64, String, Value)>() as u64);
        assert!(4 * value < MEMORY_PER_VALUE && 3 * entry + 64 < MEMORY_PER_VALUE);
    }
}
