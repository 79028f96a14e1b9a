//! Label selectors: a small language of requirements, joined by commas.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::InvalidSelector;
use super::name::{check_key, check_value};

/// A parsed label selector: all requirements must hold. The empty selector matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Exists,
    Absent,
    In(BTreeSet<String>),
    /// Holds for an absent label too.
    NotIn(BTreeSet<String>),
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Reads `k=v,k!=v,k in (a,b),k notin (a),k,!k,k>1,k<1` (Kubernetes `apimachinery/pkg/labels/selector.go`).
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        Parser::new(text).selector().map_err(InvalidSelector)
    }

    /// Whether labels satisfy it.
    pub fn matches(&self, labels: &BTreeMap<Cow<'_, str>, Cow<'_, str>>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(requirement.key.as_str()).map(AsRef::as_ref);
            requirement.condition.holds(value)
        })
    }

    /// Whether it demands all that another one does, and perhaps more.
    pub fn demands(&self, other: &Self) -> bool {
        let mut theirs = other.requirements.iter();
        theirs.all(|requirement| self.requirements.contains(requirement))
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Condition {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::In(values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Self::Greater(bound) => number().is_some_and(|number| number > *bound),
            Self::Less(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Word,
    Not,
    In,
    NotIn,
    Equals,
    NotEquals,
    Greater,
    Less,
    Open,
    Close,
    Comma,
    End,
    Unknown,
}

/// One token of look-ahead over the whole text, split at the start.
struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

impl Parser {
    fn new(text: &str) -> Self {
        Self {
            tokens: tokens(text),
            at: 0,
        }
    }

    /// The next token where a key or a value may stand: there `in` and `notin` are words like any other.
    fn peek(&self) -> (Token, &str) {
        match self.tokens.get(self.at) {
            Some((Token::In | Token::NotIn, text)) => (Token::Word, text),
            Some((token, text)) => (*token, text),
            None => (Token::End, ""),
        }
    }

    fn take(&mut self) -> (Token, String) {
        let (token, text) = self.peek();
        let taken = (token, text.to_owned());
        self.at += 1;
        taken
    }

    fn take_operator(&mut self) -> (Token, String) {
        let taken = self.tokens.get(self.at).cloned();
        self.at += 1;
        taken.unwrap_or((Token::End, String::new()))
    }

    fn selector(mut self) -> Result<LabelSelector, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                (Token::Word | Token::Not, _) => requirements.push(
                    self.requirement()
                        .map_err(|error| format!("unable to parse requirement: {error}"))?,
                ),
                (Token::End, _) => return Ok(LabelSelector { requirements }),
                (_, text) => {
                    return Err(format!(
                        "found '{text}', expected: !, identifier, or 'end of string'"
                    ));
                }
            }
            match self.take() {
                (Token::End, _) => return Ok(LabelSelector { requirements }),
                (Token::Comma, _) => match self.peek() {
                    (Token::Word | Token::Not, _) => {}
                    (_, text) => return Err(format!("found '{text}', expected: identifier after ','")),
                },
                (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let (mut token, mut key) = self.take();
        let absent = token == Token::Not;
        if absent {
            (token, key) = self.take();
        }
        if token != Token::Word {
            return Err(format!("found '{key}', expected: identifier"));
        }
        check_key(&key)?;
        if absent {
            return Ok(Requirement {
                key,
                condition: Condition::Absent,
            });
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(Requirement {
                key,
                condition: Condition::Exists,
            });
        }
        let (operator, text) = self.take_operator();
        let condition = match operator {
            Token::In => Condition::In(self.values(&key)?),
            Token::NotIn => Condition::NotIn(self.values(&key)?),
            Token::Equals => Condition::In([self.value(&key)?].into()),
            Token::NotEquals => Condition::NotIn([self.value(&key)?].into()),
            Token::Greater => Condition::Greater(self.number(&key)?),
            Token::Less => Condition::Less(self.number(&key)?),
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        Ok(Requirement { key, condition })
    }

    /// One value after `=`; nothing at all is the empty value.
    fn value(&mut self, key: &str) -> Result<String, String> {
        let value = self.exact()?;
        check_value(key, 0, &value)?;
        Ok(value)
    }

    fn number(&mut self, key: &str) -> Result<i64, String> {
        let value = self.exact()?;
        let number = value.parse().map_err(|_| {
            format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            )
        })?;
        check_value(key, 0, &value)?;
        Ok(number)
    }

    fn exact(&mut self) -> Result<String, String> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.take() {
            (Token::Word, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    /// `(a,b)`. An empty place between commas is the empty value, and `()` holds just that one.
    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, String> {
        let (token, text) = self.take();
        if token != Token::Open {
            return Err(format!("found '{text}' expected: '('"));
        }
        let mut values = BTreeSet::new();
        loop {
            match self.take() {
                (Token::Word, text) => {
                    values.insert(text);
                    match self.take() {
                        (Token::Close, _) => break,
                        (Token::Comma, _) if self.peek().0 == Token::Close => {
                            values.insert(String::new());
                        }
                        (Token::Comma, _) => {}
                        (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
                    }
                }
                (Token::Comma, _) => {
                    values.insert(String::new());
                }
                (Token::Close, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    break;
                }
                (_, text) => return Err(format!("found '{text}', expected: ',', ')' or identifier")),
            }
        }
        for (index, value) in values.iter().enumerate() {
            check_value(key, index, value)?;
        }
        Ok(values)
    }
}

fn tokens(text: &str) -> Vec<(Token, String)> {
    const SPECIAL: &[char] = &['=', '!', '(', ')', ',', '>', '<'];
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let (token, length) = if SPECIAL.contains(&first) {
            match (first, rest[1..].chars().next()) {
                ('=', Some('=')) => (Token::Equals, 2),
                ('!', Some('=')) => (Token::NotEquals, 2),
                ('=', _) => (Token::Equals, 1),
                ('!', _) => (Token::Not, 1),
                ('(', _) => (Token::Open, 1),
                (')', _) => (Token::Close, 1),
                (',', _) => (Token::Comma, 1),
                ('>', _) => (Token::Greater, 1),
                ('<', _) => (Token::Less, 1),
                _ => (Token::Unknown, 1),
            }
        } else {
            let length = rest
                .find(|c: char| is_space(c) || SPECIAL.contains(&c))
                .unwrap_or(rest.len());
            match &rest[..length] {
                "in" => (Token::In, length),
                "notin" => (Token::NotIn, length),
                _ => (Token::Word, length),
            }
        };
        tokens.push((token, rest[..length].to_owned()));
        rest = rest[length..].trim_start_matches(is_space);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(selector: &str, labels: &[(&'static str, &'static str)]) -> bool {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        LabelSelector::parse(selector).unwrap().matches(&labels)
    }

    fn fault(selector: &str) -> String {
        LabelSelector::parse(selector).unwrap_err().0
    }

    #[test]
    fn every_operator_selects_as_on_a_real_server() {
        for selector in [
            "",
            "app=web",
            "app==web",
            "app in (web,db)",
            "app",
            "!other",
            "i>1",
            "i<3",
        ] {
            assert!(matches(selector, &[("app", "web"), ("i", "2")]), "{selector}");
        }
        for selector in [
            "app=",
            "app!=web",
            "app notin (web)",
            "!app",
            "other",
            "APP=web",
            "i>2",
            "i<2",
            "i<3,i>2",
        ] {
            assert!(!matches(selector, &[("app", "web"), ("i", "2")]), "{selector}");
        }
    }

    #[test]
    fn an_absent_label_satisfies_the_negative_operators_only() {
        assert!(matches("a!=b,a notin (b),!a", &[]));
        assert!(!matches("a>1", &[]) && !matches("a=", &[]) && !matches("a in ()", &[]));
        assert!(!matches("a>1", &[("a", "text")]));
    }

    #[test]
    fn an_empty_place_in_a_set_is_the_empty_value() {
        for selector in ["a in ()", "a in (,b)", "a in (b,)", "a in (b,,c)", "a in (,)"] {
            assert!(matches(selector, &[("a", "")]), "{selector}");
        }
        assert!(!matches("a in (b)", &[("a", "")]));
    }

    #[test]
    fn operators_may_be_keys_and_values() {
        assert!(matches(
            "in=notin,notin in (in)",
            &[("in", "notin"), ("notin", "in")]
        ));
        assert!(matches(" a  in\t( b , c ) , ! d ", &[("a", "c")]));
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_a_real_server() {
        assert_eq!(
            fault("x in (a"),
            "unable to parse requirement: found '', expected: ',' or ')'"
        );
        assert_eq!(fault("app=web,"), "found '', expected: identifier after ','");
        assert_eq!(
            fault("i>x"),
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer"
        );
        assert!(fault("a/b/c=d").starts_with(
            "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist of"
        ));
        let long = "v".repeat(64);
        assert_eq!(
            fault(&format!("app={long}")),
            format!(
                "unable to parse requirement: values[0][app]: Invalid value: \"{long}\": must be no more than 63 bytes"
            )
        );
        assert_eq!(
            fault("a b"),
            "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~\\t\u{e4}]{0,24}") {
            let _ = LabelSelector::parse(&text);
        }
    }
}
