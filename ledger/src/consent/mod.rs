//! placeholder until the consent module lands
