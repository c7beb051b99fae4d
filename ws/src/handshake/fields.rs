//! Header fields by name. Names are compared without case (RFC 9110 5.1); a list may be spread over
//! several lines (5.3), a single value may not.

use httparse::Header;

/// A complete head's fields.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'h, 'b>(pub(crate) &'h [Header<'b>]);

/// What a field that must stand at most once turned out to be.
pub(crate) enum Single<'b> {
    Missing,
    Once(&'b [u8]),
    Repeated,
}

impl<'h, 'b> Fields<'h, 'b> {
    /// The value of a field that may stand once, without spaces around it.
    pub(crate) fn single(self, name: &'static str) -> Single<'b> {
        let mut lines = self.lines(name);
        match (lines.next(), lines.next()) {
            (None, _) => Single::Missing,
            (Some(value), None) => Single::Once(value),
            (Some(_), Some(_)) => Single::Repeated,
        }
    }

    /// Whether the field is there at all.
    pub(crate) fn has(self, name: &'static str) -> bool {
        self.lines(name).next().is_some()
    }

    /// The members of a comma-separated list over all its lines; empty ones are skipped (RFC 9110
    /// 5.6.1).
    pub(crate) fn members(self, name: &'static str) -> impl Iterator<Item = &'b [u8]> + 'h
    where
        'b: 'h,
    {
        self.lines(name)
            .flat_map(|line| line.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
    }

    /// Whether a list has this member, compared without case.
    pub(crate) fn has_member(self, name: &'static str, member: &str) -> bool {
        self.members(name).any(|other| other.eq_ignore_ascii_case(member.as_bytes()))
    }

    fn lines(self, name: &'static str) -> impl Iterator<Item = &'b [u8]> + 'h
    where
        'b: 'h,
    {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.trim_ascii())
    }
}
