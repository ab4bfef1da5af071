//! Stable numbers of everything that can go wrong, as people and scripts meet them: `O7S1101`. Each room lists its own
//! with [`codes!`]; `cli::codes` holds them all together, for the page of errors and for `o7s explain`.
//!
//! 1xxx manifests, 2xxx plans, 3xxx the command line, 4xxx Railway, 5xxx the control database, 6xxx the instances'
//! servers, 7xxx runs, 8xxx the local Railway, 9xxx the router. A number is never used again for something else.

use std::fmt;

use serde::{Serialize, Serializer};

/// What kind of error something is, and what is known about that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode {
    pub number: u16,
    /// A few words.
    pub title: &'static str,
    /// One paragraph: the cause, then the next step.
    pub explanation: &'static str,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "O7S{}", self.number)
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Makes a room's `Code`: `Name = number, "title", "explanation";`, in growing order.
macro_rules! codes {
    ($($name:ident = $number:literal, $title:literal, $explanation:literal;)+) => {
        /// What kind of error it is; printed as `O7S1101`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)+
        }

        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$name),+];

            /// With all that is known about it.
            pub fn entry(self) -> $crate::tenancy::ErrorCode {
                let (number, title, explanation) = match self {
                    $(Code::$name => ($number, $title, $explanation),)+
                };
                $crate::tenancy::ErrorCode { number, title, explanation }
            }
        }

        impl From<Code> for $crate::tenancy::ErrorCode {
            fn from(code: Code) -> $crate::tenancy::ErrorCode {
                code.entry()
            }
        }

        impl ::std::fmt::Display for Code {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                write!(f, "{}", self.entry())
            }
        }

        impl ::serde::Serialize for Code {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
pub(crate) use codes;
