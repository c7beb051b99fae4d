//! A target that must fail. Four bytes in a row cannot be guessed in seconds; a fuzzer that does
//! not see which branches its inputs take finds nothing here, and would find nothing elsewhere.

/// Panics for what begins with `MOOR`, and for nothing else.
///
/// # Panics
/// See above: that is its purpose.
pub fn run(data: &[u8]) {
    let mut depth = 0;
    for (byte, expected) in data.iter().zip(b"MOOR") {
        // A branch for each byte: coverage leads from one to the next.
        if byte != expected {
            return;
        }
        depth += 1;
    }
    assert!(depth < 4, "the canary is dead, as it must be");
}
