//! Quantities (`100m`, `1Gi`, `1e3`) in the one form in which Kubernetes writes each (`apimachinery/pkg/api/resource`).

/// How much a quantity is, near enough to compare it with another. None where there is none.
pub(in crate::cluster::embedded) fn amount(value: &serde_json::Value) -> Option<f64> {
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let end = text
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '-' | '+'))
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let number: f64 = digits.parse().ok()?;
    Some(match Format::of(suffix)? {
        Format::Binary(power) => number * 1024_f64.powi(i32::try_from(power).ok()?),
        Format::Decimal(power) | Format::Exponent(power) => number * 10_f64.powi(power),
    })
}

/// How much a quantity is, in billionths, finer than which there is nothing.
pub(in crate::cluster::embedded) fn billionths(text: &str) -> Result<i128, String> {
    let canonical = canonical(text)?;
    let end = canonical
        .find(|letter: char| !letter.is_ascii_digit() && letter != '-')
        .unwrap_or(canonical.len());
    let (digits, suffix) = canonical.split_at(end);
    let unit = match Format::of(suffix) {
        Some(Format::Binary(power)) => 1024_i128
            .checked_pow(power)
            .and_then(|unit| unit.checked_mul(1_000_000_000)),
        Some(Format::Decimal(power) | Format::Exponent(power)) => u32::try_from(power + 9)
            .ok()
            .and_then(|power| 10_i128.checked_pow(power)),
        None => None,
    };
    let amount = digits
        .parse::<i128>()
        .ok()
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit));
    amount.ok_or_else(|| format!("unable to represent numeric value {text:?}"))
}

/// The canonical form: no fraction, and the greatest suffix that needs none.
pub(in crate::cluster::embedded) fn canonical(text: &str) -> Result<String, String> {
    let malformed = || {
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            .to_owned()
    };
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(unsigned.len());
    let (digits, suffix) = unsigned.split_at(end);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(malformed());
    }
    let format = Format::of(suffix).ok_or_else(malformed)?;
    // What no machine has is kept as it was written.
    let kept = || Ok(text.to_owned());
    let fraction = fraction.trim_end_matches('0');
    let Ok(mut number) = format!("0{whole}{fraction}").parse::<i128>() else {
        return kept();
    };
    let Ok(places) = i32::try_from(fraction.len()) else {
        return kept();
    };
    let mut exponent = -places;
    match format {
        Format::Binary(power) => {
            let Some(scaled) = 1024_i128
                .checked_pow(power)
                .and_then(|unit| number.checked_mul(unit))
            else {
                return kept();
            };
            number = scaled;
        }
        Format::Decimal(power) | Format::Exponent(power) => exponent += power,
    }
    if number == 0 {
        return Ok("0".into());
    }
    while number % 10 == 0 {
        number /= 10;
        exponent += 1;
    }
    // Nothing is finer than a billionth; what is, is rounded up.
    while exponent < -9 {
        number = number / 10 + i128::from(number % 10 != 0);
        exponent += 1;
    }
    let sign = if negative { "-" } else { "" };
    if matches!(format, Format::Binary(_))
        && exponent >= 0
        && let Some(whole) = u32::try_from(exponent)
            .ok()
            .and_then(|exponent| 10_i128.checked_pow(exponent))
            .and_then(|unit| number.checked_mul(unit))
        && whole >= 1024
    {
        let (mut whole, mut power) = (whole, 0);
        while whole % 1024 == 0 && power + 1 < BINARY.len() {
            whole /= 1024;
            power += 1;
        }
        return Ok(format!("{sign}{whole}{}", BINARY[power]));
    }
    while exponent % 3 != 0 {
        let Some(finer) = number.checked_mul(10) else {
            return kept();
        };
        number = finer;
        exponent -= 1;
    }
    // Beyond the greatest suffix only digits are left.
    while !matches!(format, Format::Exponent(_)) && exponent > 18 {
        let Some(finer) = number.checked_mul(1000) else {
            return kept();
        };
        number = finer;
        exponent -= 3;
    }
    if matches!(format, Format::Exponent(_)) && exponent != 0 {
        return Ok(format!("{sign}{number}e{exponent}"));
    }
    let suffix = usize::try_from(exponent / 3 + 3)
        .ok()
        .and_then(|place| DECIMAL.get(place));
    suffix.map_or_else(kept, |suffix| Ok(format!("{sign}{number}{suffix}")))
}

#[derive(Clone, Copy)]
enum Format {
    /// Powers of 1024.
    Binary(u32),
    /// Powers of ten with a letter.
    Decimal(i32),
    /// Powers of ten in digits.
    Exponent(i32),
}

impl Format {
    fn of(suffix: &str) -> Option<Self> {
        if let Some(power) = BINARY.iter().skip(1).position(|known| *known == suffix) {
            return Some(Self::Binary(u32::try_from(power).ok()? + 1));
        }
        if let Some(place) = DECIMAL.iter().position(|known| *known == suffix) {
            return Some(Self::Decimal((i32::try_from(place).ok()? - 3) * 3));
        }
        let power = suffix.strip_prefix(['e', 'E'])?;
        power
            .parse::<i16>()
            .ok()
            .map(|power| Self::Exponent(power.into()))
    }
}

const BINARY: &[&str] = &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: &[&str] = &["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_amount_has_one_form() {
        for (given, wanted) in [
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("1000000", "1M"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("0", "0"),
            ("0Gi", "0"),
            ("-1", "-1"),
            ("110", "110"),
            ("16384000Ki", "16000Mi"),
            ("1E", "1E"),
            (".5", "500m"),
            ("0.0000000001", "1n"),
        ] {
            assert_eq!(canonical(given).unwrap(), wanted, "{given}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_and_what_is_too_great_is_kept() {
        for bad in ["", "1x", "x", "1..2", "1.2.3", "-", "1 Gi", "1KiB", "."] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
        let great = "9".repeat(60);
        assert_eq!(canonical(&great).unwrap(), great);
    }
}
