//! The Rust client against a real server: what applications see, also when the server is killed.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not foresee")]

mod common;

use std::future::{Future, ready};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{
    Answer, Client, Config, Entry, Event, Events, FileStore, GatewayList, Gateways, Keeping,
    Listing, RequestError, What,
};
use common::STEP_TIMEOUT;
use common::client::direct;
use common::process::{Server, token};
use tokio::task::JoinSet;
use wire::client::Direction;
use wire::server::Resume;
use wire::{ChannelId, InboxSeq, Nonce, RejectCode, Role, Seq, UserId};

const ALICE: u64 = 1;
const BOB: u64 = 2;

/// Tells where the server is now, which changes when it is started again.
#[derive(Clone, Default)]
struct Here(Arc<Mutex<String>>);

impl Here {
    fn at(server: &Server) -> Self {
        let here = Self::default();
        here.moved_to(server);
        here
    }

    fn moved_to(&self, server: &Server) {
        *self.0.lock().unwrap() = format!("ws://{}", server.gateway);
    }
}

impl Gateways for Here {
    fn list(&self) -> Listing<'_> {
        let url = self.0.lock().unwrap().clone();
        Box::pin(ready(GatewayList::new([&*url], Duration::ZERO)))
    }
}

fn config(here: &Here, data: &Path, user: u64) -> Config {
    Config::new(here.clone(), token(data, user, 1))
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_TIMEOUT, what).await.expect("it happens soon")
}

async fn online(config: Config) -> (Client, Events) {
    let client = Client::connect(config).await.unwrap();
    let mut events = client.events();
    loop {
        match soon(events.next()).await.expect("the session goes on") {
            Event::Online(_) => return (client, events),
            Event::Offline { .. } => {}
            other => panic!("{other:?} before it is online"),
        }
    }
}

async fn next_entry(events: &mut Events) -> Entry {
    loop {
        match soon(events.next()).await.expect("the session goes on") {
            Event::Inbox(entry) => return entry,
            Event::Online(online) => assert_eq!(online.resume, Resume::Resumed),
            Event::Offline { .. } | Event::Settled { .. } => {}
            other => panic!("{other:?} instead of an entry"),
        }
    }
}

/// The next messages of a user: place and text.
async fn next_texts(events: &mut Events, of: u64, count: usize) -> Vec<(u64, String)> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let entry = next_entry(events).await;
        let message = entry.message().expect("only messages are sent");
        if message.sender == user(of) {
            texts.push((message.seq.get(), message.text().expect("a text").to_owned()));
        }
    }
    texts
}

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

fn numbered(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, String)> {
    range.map(|number| (number, number.to_string())).collect()
}

#[tokio::test]
async fn a_bot_has_all_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let here = Here::at(&server);
    let (alice, mut hers) = online(config(&here, &data, ALICE)).await;
    let (bob, mut his) = online(config(&here, &data, BOB)).await;

    let pair = direct(ALICE, BOB);
    let posted = soon(alice.send(pair, "hello")).await.unwrap();
    assert_eq!((posted.channel, posted.seq), (pair, Seq::new(1)));
    assert_eq!(next_texts(&mut his, ALICE, 1).await, [(1, "hello".into())]);
    assert_eq!(next_entry(&mut hers).await.message().unwrap().body, None, "she has the body");

    let made = soon(alice.create_group("tea", [user(BOB)])).await.unwrap();
    let What::Created(created) = next_entry(&mut his).await.what else { panic!("not created") };
    assert_eq!((created.channel, &*created.title), (made.channel, "tea"));
    soon(alice.add_members(made.channel, [user(3)], Role::Member)).await.unwrap();
    soon(bob.leave(made.channel)).await.unwrap();
    let error = soon(bob.send(made.channel, "too late")).await.unwrap_err();
    let RequestError::Rejected { code, .. } = error else { panic!("{error:?}") };
    assert_eq!(code, RejectCode::NotMember);

    let history = soon(alice.history(made.channel, Direction::Forward, Seq::new(1), 0)).await;
    let history = history.unwrap();
    assert_eq!((history.entries.len(), history.more), (3, false), "made, added, left");
    let channels: Vec<ChannelId> = soon(alice.channels(InboxSeq::ZERO, 0))
        .await
        .unwrap()
        .conversations
        .iter()
        .map(|it| it.channel)
        .collect();
    assert_eq!(channels, [made.channel, pair]);

    soon(bob.mark_read(pair, Seq::new(1))).await.unwrap();
    loop {
        if let What::Read { user: reader, seq, .. } = next_entry(&mut hers).await.what {
            assert_eq!((reader, seq), (user(BOB), Seq::new(1)));
            break;
        }
    }
    soon(alice.typing(pair)).await.unwrap();
    loop {
        if let Event::Typing { channel, user: who } = soon(his.next()).await.unwrap() {
            assert_eq!((channel, who), (pair, user(ALICE)));
            break;
        }
    }
    soon(alice.close()).await;
    assert!(matches!(alice.send(pair, "x").await, Err(RequestError::Ended(_))));
    drop(bob);
    server.stop();
}

#[tokio::test]
async fn a_server_killed_amid_posts_loses_none_and_doubles_none() {
    const POSTS: u64 = 400;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::start(&data);
    let here = Here::at(&server);
    let (alice, _hers) = online(config(&here, &data, ALICE)).await;
    let (_bob, mut his) = online(config(&here, &data, BOB)).await;

    let mut posts = JoinSet::new();
    for number in 1..=POSTS {
        let alice = alice.clone();
        posts.spawn(async move {
            alice.send(direct(ALICE, BOB), number.to_string()).await.unwrap().seq.get()
        });
    }
    let mut places = Vec::new();
    for kills in 0..3 {
        for _ in 0..POSTS / 5 {
            places.push(soon(posts.join_next()).await.unwrap().unwrap());
        }
        assert!(!posts.is_empty(), "some are under way at kill {kills}");
        server.kill();
        server = Server::start(&data);
        here.moved_to(&server);
    }
    while let Some(place) = soon(posts.join_next()).await {
        places.push(place.unwrap());
    }
    places.sort_unstable();
    assert_eq!(places, (1..=POSTS).collect::<Vec<_>>(), "each has one place, without holes");
    let heard = next_texts(&mut his, ALICE, usize::try_from(POSTS).unwrap()).await;
    assert_eq!(heard, numbered(1..=POSTS), "in the order in which they were sent");
    server.stop();
}

#[tokio::test]
async fn a_client_that_ends_amid_posts_goes_on_from_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = folder.path().join("store");
    let server = Server::start(&data);
    let here = Here::at(&server);
    let with_store = |here: &Here| {
        let mut config = config(here, &data, ALICE);
        config.store = Box::new(FileStore::open(&store).unwrap());
        config
    };
    let (_bob, mut his) = online(config(&here, &data, BOB)).await;
    let (alice, hers) = online(with_store(&here)).await;
    soon(alice.send(direct(ALICE, BOB), "1")).await.unwrap();
    server.kill();
    for number in 2..=5 {
        // Begun, and so stored, while there is no server.
        let mut post = pin!(alice.send(direct(ALICE, BOB), number.to_string()));
        tokio::select! {
            biased;
            done = &mut post => panic!("{done:?} without a server"),
            () = ready(()) => {}
        }
    }
    drop((alice, hers)); // As if its process were killed: no word to anybody.

    let server = Server::start(&data);
    here.moved_to(&server);
    let (alice, mut hers) = online(with_store(&here)).await;
    let (mut settled, mut copies) = (Vec::new(), 0);
    // The entry that was taken last, if that was the last of all.
    let mut again = None;
    while settled.len() < 4 || copies < 5 {
        match soon(hers.next()).await.unwrap() {
            Event::Settled { outcome: Ok(Answer::Posted(posted)), .. } => {
                settled.push(posted.seq.get());
                again = None;
            }
            Event::Inbox(entry) => {
                copies = entry.message().unwrap().seq.get();
                again = Some(copies);
            }
            Event::Offline { .. } => again = None,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(settled, [2, 3, 4, 5]);
    soon(alice.close()).await;
    assert_eq!(next_texts(&mut his, ALICE, 5).await, numbered(1..=5));
    drop((alice, hers));
    let (alice, mut hers) = online(with_store(&here)).await;
    soon(alice.post(direct(ALICE, BOB), Nonce(1), 0, "6")).await.unwrap();
    for place in again.into_iter().chain([6]) {
        let entry = next_entry(&mut hers).await;
        let told = "the last one taken does not count as kept, and comes again";
        assert_eq!(entry.message().unwrap().seq.get(), place, "{told}");
    }
    server.stop();
}

#[tokio::test]
async fn a_slow_application_misses_nothing_and_may_await_answers_meanwhile() {
    const POSTS: u64 = 200;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let here = Here::at(&server);
    let mut narrow = config(&here, &data, BOB);
    narrow.entries_max = 8;
    narrow.keeping = Keeping::Explicitly;
    let (bob, mut his) = online(narrow).await;
    let (alice, _hers) = online(config(&here, &data, ALICE)).await;
    for number in 1..=POSTS {
        soon(alice.send(direct(ALICE, BOB), number.to_string())).await.unwrap();
    }
    soon(bob.send(direct(BOB, BOB), "to myself")).await.unwrap();
    assert_eq!(next_texts(&mut his, ALICE, 200).await, numbered(1..=POSTS));
    let own = next_entry(&mut his).await;
    bob.keep(own.inbox_seq);
    soon(bob.close()).await;
    server.stop();
}

#[tokio::test]
async fn the_example_bot_answers_each_message_once_over_kills_of_its_own_and_of_the_server() {
    const TEXTS: u64 = 60;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = folder.path().join("store");
    let mut server = Server::start(&data);
    let here = Here::at(&server);
    let start_bot = || {
        let mut config = config(&here, &data, BOB);
        config.store = Box::new(FileStore::open(&store).unwrap());
        tokio::spawn(async move {
            let client = Client::connect(config).await.unwrap();
            echo_bot::echo(&client, |_| {}).await
        })
    };
    let mut bot = start_bot();
    let (alice, mut hers) = online(config(&here, &data, ALICE)).await;
    // The bot's inbox begins when it is first welcomed: it answers this one when it is there.
    let pair = direct(ALICE, BOB);
    let mut answers = Vec::new();
    while answers.is_empty() {
        soon(alice.send(pair, "are you there?")).await.unwrap();
        let wait = Duration::from_millis(200);
        if let Ok(texts) = tokio::time::timeout(wait, next_texts(&mut hers, BOB, 1)).await {
            answers = texts;
        }
    }
    let mut heard = Vec::new();
    for number in 1..=TEXTS {
        soon(alice.send(pair, number.to_string())).await.unwrap();
        match number {
            20 | 40 => {
                bot.abort();
                assert!(bot.await.unwrap_err().is_cancelled());
                bot = start_bot();
            }
            30 => {
                server.kill();
                server = Server::start(&data);
                here.moved_to(&server);
            }
            _ => {}
        }
    }
    while heard.len() < usize::try_from(TEXTS).unwrap() {
        let (_, text) = next_texts(&mut hers, BOB, 1).await.remove(0);
        if text != "are you there?" {
            heard.push(text);
        }
    }
    let expected: Vec<String> = (1..=TEXTS).map(|number| number.to_string()).collect();
    assert_eq!(heard, expected);
    // One more exchange: had anything been answered twice, it would come before this.
    soon(alice.send(pair, "last")).await.unwrap();
    assert_eq!(next_texts(&mut hers, BOB, 1).await[0].1, "last");
    bot.abort();
    drop(alice);
    server.stop();
}
