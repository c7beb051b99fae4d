//! Enums as the numbers that stand for them in frames and keys.

/// Gives each enum `number` and its inverse; the list of variants must be the enum's own, which
/// the match of `number` checks when it is compiled.
macro_rules! numbered {
    ($($name:ident: $repr:ty { $($variant:ident),* })*) => {$(
        impl $name {
            /// Every value, in ascending order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number that stands for it in frames and keys.
            #[must_use]
            pub const fn number(self) -> $repr {
                match self {
                    $(Self::$variant => Self::$variant as $repr,)*
                }
            }

            /// What the number stands for; `None` if this version does not know it.
            #[must_use]
            pub const fn from_number(number: $repr) -> Option<Self> {
                $(if number == Self::$variant as $repr {
                    return Some(Self::$variant);
                })*
                None
            }
        }
    )*};
}
pub(crate) use numbered;
