//! When, and what the node is told.

use super::*;

fn clerk() -> Clerk {
    Clerk { board: Arc::default(), failures: HashMap::new() }
}

#[test]
fn a_third_of_its_time_before_the_end_a_certificate_is_due() {
    assert_eq!(renewal((0, 90 * 86_400)), 60 * 86_400);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let site = |valid_unix_s| Wanted { names: vec!["a.example".into()], valid_unix_s };
    let clerk = clerk();
    assert!(clerk.is_due(&site(None), "a.example"));
    assert!(clerk.is_due(&site(Some((now - 200, now + 99))), "a.example"));
    assert!(clerk.is_due(&site(Some((now - 200, now - 100))), "a.example"));
    assert!(!clerk.is_due(&site(Some((now - 100, now + 200))), "a.example"));
}

#[test]
fn what_fails_is_tried_again_later_each_time() {
    let mut clerk = clerk();
    let waits: Vec<u64> = (0..20).map(|_| clerk.failed("a.example").as_secs() / 60).collect();
    assert_eq!(waits[..7], [15, 30, 60, 120, 240, 480, 720]);
    assert!(waits[7..].iter().all(|w| *w == 720));
    let site = Wanted { names: vec!["a.example".into()], valid_unix_s: None };
    assert!(!clerk.is_due(&site, "a.example"));
    assert!(clerk.is_due(&site, "b.example"), "others do not wait");
}

/// A certificate that is stored and not taken into use is not ordered again and again.
#[test]
fn what_is_stored_and_not_taken_is_asked_for_again() {
    let mut clerk = clerk();
    let board = Arc::clone(&clerk.board);
    board.state().renewed = true;
    let news = board.news().expect("a certificate is stored");
    assert!(news.renewed && board.news().is_none(), "said once");
    board.not_taken(&news);
    assert!(board.news().is_none(), "not at once");
    board.state().rests_until = Some(Instant::now());
    assert!(board.news().expect("again").renewed);

    // As after an order that went well.
    clerk.failed("a.example");
    let site = |valid_unix_s| Wanted { names: vec!["a.example".into()], valid_unix_s };
    clerk.forget_failures(&[site(None)]);
    assert!(!clerk.is_due(&site(None), "a.example"), "it does not show");
    clerk.forget_failures(&[site(Some((0, i64::MAX)))]);
    assert!(clerk.is_due(&site(None), "a.example"), "it has shown, and was lost");
}

#[test]
fn the_thread_waits_until_the_cores_show_its_proofs() {
    let board = Arc::new(Board::default());
    assert!(board.news().is_none());
    let own = Arc::clone(&board);
    let proof = Proof::Http { token: "t".into(), answer: "a".into() };
    let thread = std::thread::spawn(move || own.show(vec![Shown { name: "a.example".into(), proof }]));
    let news = loop {
        match board.news() {
            Some(news) => break news,
            None => std::thread::yield_now(),
        }
    };
    assert_eq!((board.shown().len(), news.renewed), (1, false));
    assert!(!thread.is_finished());
    board.taken(news.show.expect("something to show"));
    assert_eq!(thread.join().expect("no panic"), Ok(()));
    assert!(board.news().is_none());
}

#[test]
fn a_file_is_replaced_whole_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let storage = std::env::temp_dir().join(format!("millrace-acme-store-{}", std::process::id()));
    let file = certificate_file(&storage, "a.example");
    assert_eq!(store::read(&file), Ok(None));
    for text in ["one", "two"] {
        store::write(&file, text).expect("writable");
        assert_eq!(store::read(&file), Ok(Some(text.to_owned())));
    }
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&storage).expect("a folder").count(), 1);
    std::fs::remove_dir_all(storage).expect("removable");
}
