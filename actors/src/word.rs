//! Public values that are one word: the same in texts, in JSON and in metrics, so that whoever reads one can
//! search for it.

/// The word of each variant, and [`Display`](std::fmt::Display) by it.
macro_rules! words {
    ($type:ident { $($variant:ident: $word:literal),+ $(,)? }) => {
        $crate::word::words!(pub $type { $($variant: $word),+ });
    };
    ($vis:vis $type:ident { $($variant:ident: $word:literal),+ $(,)? }) => {
        impl $type {
            /// Its word in texts and in JSON.
            $vis fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use words;
