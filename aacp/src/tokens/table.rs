//! Tables of token counts.

use std::{
    fmt,
    string::{String, ToString},
    vec::Vec,
};

use super::{Sample, TokenError, Tokenizer, packet_json, packet_toon};

/// Token counts of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In English.
    pub english: usize,
    /// As a packet.
    pub aacp: usize,
    /// As compact JSON.
    pub json: usize,
    /// As TOON.
    pub toon: usize,
}

/// Token counts of several messages with one tokenizer. `Display` prints a Markdown table, followed by [`Table::verdict`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The name of the tokenizer.
    pub tokenizer: String,
    /// The name of each message with its counts.
    pub rows: Vec<(String, Counts)>,
}

impl Table {
    /// Counts the tokens of messages.
    ///
    /// # Errors
    /// If a sample's packet cannot be parsed, or the tokenizer fails.
    pub fn count(tokenizer: &impl Tokenizer, samples: &[Sample]) -> Result<Self, TokenError> {
        let row = |(number, sample): (usize, &Sample)| {
            let unreadable = TokenError::Packet { sample: number };
            let json = packet_json(&sample.packet).ok_or(unreadable.clone())?.to_string();
            let toon = packet_toon(&sample.packet).ok_or(unreadable)?;
            let counts = Counts {
                english: tokenizer.count(&sample.english)?,
                aacp: tokenizer.count(&sample.packet)?,
                json: tokenizer.count(&json)?,
                toon: tokenizer.count(&toon)?,
            };
            Ok((sample.name.clone(), counts))
        };
        let rows = samples.iter().enumerate().map(row).collect::<Result<_, _>>()?;
        Ok(Self { tokenizer: tokenizer.name().to_string(), rows })
    }

    /// The sum of all rows.
    pub fn total(&self) -> Counts {
        self.rows.iter().fold(Counts::default(), |sum, (_, row)| Counts {
            english: sum.english + row.english,
            aacp: sum.aacp + row.aacp,
            json: sum.json + row.json,
            toon: sum.toon + row.toon,
        })
    }

    /// The messages for which other notations take at most as many tokens as the packet, with these notations.
    pub fn not_won(&self) -> Vec<(&str, Vec<&'static str>)> {
        let rivals = |counts: &Counts| {
            let rivals = [("English", counts.english), ("JSON", counts.json), ("TOON", counts.toon)];
            rivals
                .into_iter()
                .filter(|(_, tokens)| *tokens <= counts.aacp)
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        let rows = self.rows.iter().map(|(name, counts)| (name.as_str(), rivals(counts)));
        rows.filter(|(_, rivals)| !rivals.is_empty()).collect()
    }

    /// One line that states where AACP does not take the fewest tokens.
    pub fn verdict(&self) -> String {
        let not_won = self.not_won();
        if not_won.is_empty() {
            return "AACP takes the fewest tokens for every message.".to_string();
        }
        let to = |rival: &str| not_won.iter().filter(|(_, rivals)| rivals.contains(&rival)).count();
        let parts: Vec<String> = ["English", "JSON", "TOON"]
            .into_iter()
            .filter(|rival| to(rival) > 0)
            .map(|rival| std::format!("{rival} on {}", to(rival)))
            .collect();
        std::format!("Of {} messages, AACP does not win against {}.", self.rows.len(), parts.join(", "))
    }

    /// A comparison with the published counts, for a table of [`super::payroll_hops`] with GPT-4o's vocabulary.
    ///
    /// The published counts are of whole requests, so the tokens around a request's message are added to each row.
    pub fn beside_published(&self) -> String {
        let Counts { english, aacp, .. } = self.total();
        let around = TOKENS_AROUND_A_MESSAGE * self.rows.len();
        std::format!(
            "Whole requests, with {TOKENS_AROUND_A_MESSAGE} tokens around each message: English {}, AACP {}.\n\
             Published for GPT-4o: English {PUBLISHED_ENGLISH}, AACP 1.0 {PUBLISHED_AACP_1_0}, AACP 1.1 {PUBLISHED_AACP_1_1}.",
            english + around,
            aacp + around,
        )
    }
}

/// Tokens that GPT-4o's chat format puts around a request's one message: three for the message, one for its role, three
/// that start the answer.
const TOKENS_AROUND_A_MESSAGE: usize = 7;

/// Prompt tokens of the four payroll hops in English, as GPT-4o's service counted them: `benchmarks/summary.md` of the
/// repository MackayAndrew/aacp.
const PUBLISHED_ENGLISH: usize = 219;

/// The same for packets of version 1.0, from the same place.
const PUBLISHED_AACP_1_0: usize = 168;

/// The same for packets of version 1.1: 23.7% less than English, says the README of the Python package 1.1.0.
const PUBLISHED_AACP_1_1: usize = 167;

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.rows.iter().map(|(name, _)| name.chars().count());
        let width = names.chain([self.tokenizer.chars().count(), "total".len()]).max().unwrap_or(0);
        let head = [("English", 7), ("AACP", 5), ("JSON", 5), ("TOON", 5), ("AACP to English", 15)];
        write!(f, "| {:width$} |", self.tokenizer)?;
        head.iter().try_for_each(|(name, width)| write!(f, " {name:>width$} |"))?;
        write!(f, "\n|{:-<1$}|", "", width + 2)?;
        head.iter().try_for_each(|(_, width)| write!(f, "{:->1$}:|", "", width + 1))?;
        f.write_str("\n")?;

        let rows = self.rows.iter().map(|(name, counts)| (name.as_str(), *counts));
        for (name, Counts { english, aacp, json, toon }) in rows.chain([("total", self.total())]) {
            let change = match english {
                0 => String::new(),
                _ => std::format!("{:+.1}%", (aacp as f64 / english as f64 - 1.0) * 100.0),
            };
            writeln!(
                f,
                "| {name:width$} | {english:>7} | {aacp:>5} | {json:>5} | {toon:>5} | {change:>15} |"
            )?;
        }
        writeln!(f, "\n{}", self.verdict())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Version,
        tokens::{Vocabulary, payroll_hops},
    };

    /// One token for each word between spaces, to count by hand.
    struct Words;

    impl Tokenizer for Words {
        fn name(&self) -> &str {
            "words"
        }

        fn count(&self, text: &str) -> Result<usize, TokenError> {
            Ok(text.split_whitespace().count())
        }
    }

    fn sample(name: &str, english: &str, packet: &str) -> Sample {
        Sample { name: name.into(), english: english.into(), packet: packet.into() }
    }

    #[test]
    fn the_table_has_each_row_the_total_and_a_plain_verdict() {
        let samples = [
            sample("a", "please send it off", "SEND|HR|return:A B"),
            sample("b", "send", "SEND|HR|return:A B C"),
        ];
        let table = Table::count(&Words, &samples).unwrap();
        assert_eq!(
            table.to_string(),
            "| words | English |  AACP |  JSON |  TOON | AACP to English |\n\
             |-------|--------:|------:|------:|------:|----------------:|\n\
             | a     |       4 |     2 |     2 |     7 |          -50.0% |\n\
             | b     |       1 |     3 |     3 |     8 |         +200.0% |\n\
             | total |       5 |     5 |     5 |    15 |           +0.0% |\n\n\
             Of 2 messages, AACP does not win against English on 1, JSON on 2.\n"
        );
        let bad = Table::count(&Words, &[sample("a", "x", "no packet")]);
        assert_eq!(bad, Err(TokenError::Packet { sample: 0 }));
    }

    /// Whole requests per hop that give the changes published for 1.1 (-12.7%, -16.0%, -31.6%, -33.3%) and the totals.
    const PUBLISHED_HOPS: [(usize, usize); 4] = [(55, 48), (50, 42), (57, 39), (57, 38)];

    #[test]
    fn our_counts_of_the_published_hops_are_the_published_ones() {
        let sums = PUBLISHED_HOPS.iter().fold((0, 0), |sum, hop| (sum.0 + hop.0, sum.1 + hop.1));
        assert_eq!(sums, (PUBLISHED_ENGLISH, PUBLISHED_AACP_1_1));

        let table = Table::count(&Vocabulary::O200k, &payroll_hops(Version::V1_1)).unwrap();
        for ((name, counts), published) in table.rows.iter().zip(PUBLISHED_HOPS) {
            assert_eq!(counts.aacp + TOKENS_AROUND_A_MESSAGE, published.1, "{name}");
            // The English of the last hop was measured at five tokens more than its published text has.
            let unpublished = if name == "generate report" { 5 } else { 0 };
            assert_eq!(counts.english + TOKENS_AROUND_A_MESSAGE + unpublished, published.0, "{name}");
        }
        assert!(
            table
                .beside_published()
                .starts_with("Whole requests, with 7 tokens around each message: English 214, AACP 167.")
        );
    }
}
