//! Logs that are whole, cut off, damaged; folders that were emptied or put together.

use malachite_app_channel::app::engine::wal::encode_entry;
use malachite_app_channel::app::types::core::{
    NilOrVal, Round, SignedMessage, Timeout, TimeoutKind, VoteType,
};

use super::super::scheme::Signature;
use super::super::types::{Address, BlockHash, Height, Vote};
use super::*;

struct Folder {
    dir: tempfile::TempDir,
    files: Files,
}

fn folder() -> Folder {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path().join("never-voted"), dir.path().join("consensus"));
    std::fs::create_dir_all(dir.path().join("consensus/wal")).unwrap();
    Folder { dir, files }
}

/// Two votes and a timeout.
fn write_log(files: &Files, log_height: u64, vote_height: u64) {
    let _ = remove_file(files.log());
    let mut log = Log::open(files.log()).unwrap();
    log.reset(log_height).unwrap();
    let vote = |value| {
        let (height, round, address) = (Height(vote_height), Round::new(0), Address([3; 32]));
        let vote = Vote { kind: VoteType::Prevote, height, round, value, address };
        Input::Vote(SignedMessage::new(vote, Signature([9; 64])))
    };
    let timeout = Input::TimeoutElapsed(Timeout::new(Round::new(0), TimeoutKind::Propose));
    for entry in [vote(NilOrVal::Nil), timeout, vote(NilOrVal::Val(BlockHash([5; 32])))] {
        let mut bytes = Vec::new();
        encode_entry::<BftContext, _, _>(entry, &WireCodec::default(), &mut bytes).unwrap();
        log.append(&bytes).unwrap();
    }
    log.flush().unwrap();
}

#[test]
fn only_a_marker_without_a_past_means_never() {
    let Folder { dir, files } = folder();
    assert!(matches!(files.recall(0, true), Ok(Memory::Lost(why)) if why.contains("missing")));
    std::fs::write(dir.path().join("never-voted"), "").unwrap();
    assert_eq!(files.recall(0, true).unwrap(), Memory::Never);
    // Ended between making the log and removing the marker.
    drop(Log::open(files.log()).unwrap());
    assert_eq!(files.recall(0, true).unwrap(), Memory::Never);
    // A marker that was put back.
    assert!(matches!(files.recall(7, true), Ok(Memory::Lost(why)) if why.contains("never-voted")));
    write_log(&files, 1, 1);
    assert!(matches!(files.recall(0, true), Ok(Memory::Lost(_))));
    files.will_vote().unwrap();
    assert!(!dir.path().join("never-voted").exists());
    assert_eq!(files.recall(0, true).unwrap(), Memory::Kept);
}

#[test]
fn log_and_ledger_must_be_of_one_time() {
    let Folder { dir, files } = folder();
    write_log(&files, 7, 7);
    for (tip, kept) in [(0, false), (5, false), (6, true), (7, true), (8, false), (500, false)] {
        assert_eq!(files.recall(tip, true).unwrap() == Memory::Kept, kept, "tip {tip}");
    }
    // Following leaves the log behind; that nothing was signed since is written down, until it is lost or voting begins.
    files.follows(8).unwrap();
    assert!(matches!(files.recall(500, true), Ok(Memory::Kept)));
    assert!(matches!(files.recall(5, true), Ok(Memory::Lost(_))));
    files.lost().unwrap();
    assert!(
        matches!(files.recall(500, true), Ok(Memory::Lost(why)) if why.contains("block 7") && why.contains("block 500"))
    );
    files.follows(8).unwrap();
    files.will_vote().unwrap();
    assert!(matches!(files.recall(500, true), Ok(Memory::Lost(_))));
    // An engine that never started a height knows of none.
    remove_file(files.log()).unwrap();
    drop(Log::open(files.log()).unwrap());
    assert!(matches!(files.recall(0, true), Ok(Memory::Lost(_))));
    // A log without a whole head.
    std::fs::write(files.log(), [0, 0, 0, 1, 0]).unwrap();
    assert!(matches!(files.recall(0, true), Ok(Memory::Lost(_))));
    assert!(!files.log().exists());
    drop(dir);
}

/// Every single flipped bit is found, or leads to waiting; none is voted upon.
#[test]
fn a_flipped_bit_is_never_taken_for_a_whole_memory() {
    let Folder { dir: _dir, files } = folder();
    write_log(&files, 7, 7);
    let whole = std::fs::read(files.log()).unwrap();
    assert_eq!(files.recall(6, true).unwrap(), Memory::Kept);
    let (mut corrupt, mut lost) = (0, 0);
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(files.log(), &bytes).unwrap();
        match files.recall(6, true) {
            Err(Fatal::Corrupt(_)) => corrupt += 1,
            Ok(Memory::Lost(_)) => lost += 1,
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    assert!(corrupt > 9 * lost, "{corrupt} {lost}");
}

#[test]
fn a_log_that_was_cut_off_is_a_crash() {
    let Folder { dir: _dir, files } = folder();
    write_log(&files, 7, 7);
    let whole = std::fs::read(files.log()).unwrap();
    for length in LOG_HEAD..whole.len() {
        std::fs::write(files.log(), &whole[..length]).unwrap();
        assert_eq!(files.recall(6, true).unwrap(), Memory::Kept, "{length} bytes");
        assert_eq!(std::fs::read(files.log()).unwrap(), whole[..length], "it was changed");
    }
    write_log(&files, 7, 8);
    assert!(
        matches!(files.recall(7, true), Err(Fatal::Corrupt(what)) if what.contains("block 8 in a log of block 7"))
    );
}
