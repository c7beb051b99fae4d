//! What several reports say in the same words.

use serde_json::Value;

/// The value in the middle; of an even number the upper one. NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The `machine` of a report of the load generator: `CPU, 2 processors, Linux 6.18`.
pub(crate) fn machine(machine: &Value) -> String {
    format!(
        "{}, {} processors, Linux {}",
        machine["cpu"].as_str().unwrap_or("unknown"),
        machine["processors"],
        machine["kernel"].as_str().unwrap_or("unknown")
    )
}

/// `1,000,000`.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_whatever_the_order() {
        let rows: [(&[f64], f64); 3] = [(&[5.0], 5.0), (&[9.0, 1.0, 4.0], 4.0), (&[1.0, 8.0], 8.0)];
        for (values, expected) in rows {
            assert!((median(values) - expected).abs() < f64::EPSILON, "{values:?}");
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_machine_is_named_as_far_as_it_is_known() {
        let known = serde_json::json!({ "cpu": "X", "processors": 2, "kernel": "6.18" });
        assert_eq!(machine(&known), "X, 2 processors, Linux 6.18");
        assert_eq!(machine(&Value::Null), "unknown, null processors, Linux unknown");
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let rows = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (value, text) in rows {
            assert_eq!(thousands(value), text);
        }
    }
}
