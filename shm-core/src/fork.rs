//! temp
pub fn stamp() -> u64 {
    std::process::id().into()
}
