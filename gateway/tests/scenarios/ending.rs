//! Timeouts and the drain.

use crate::sim::script::play;
use crate::sim::setup::Setup;

fn quick() -> Setup {
    Setup::cores(2).with(|limits| {
        limits.hello_ticks = 10;
        limits.silence_ticks = 20;
        limits.close_ticks = 5;
    })
}

#[test]
fn silence_ends_a_session_and_a_heartbeat_of_any_kind_keeps_it() {
    play(
        &quick(),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u3 > hello
        u3 < welcome @0 Fresh
        tick 15
        u1 > ping 1
        u1 < pong 1
        u2 > wsping ""
        u2 < wspong ""
        tick 15
        u3 < closed 4408
        u3 < lost
        u1 < nothing
        tick 15
        u1 < closed 4408
        u1 < lost
        u2 < closed 4408
        u2 < lost
        "#,
    );
}

#[test]
fn a_drain_says_when_to_come_back_answers_what_is_owed_and_ends() {
    let setup = Setup::cores(2).with(|limits| limits.drain = std::time::Duration::from_secs(10));
    play(
        &setup,
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1.2 > hello
        u1.2 < welcome @0 Fresh
        hold
        u1 > post u2 n1 "1"
        drain
        u1 < reconnect 0
        u1.2 < reconnect 5000
        u1.2 < closed 1001
        u1.2 < lost
        u1 < nothing
        running
        u3 > hello at 0               // Nobody is let in.
        u3 < lost
        release
        tick 2
        u1 < posted n1 #1
        u1 < @1 u1:u2#1 u1 own
        u1 < closed 1001
        u1 < lost
        tick 2
        exited
        "#,
    );
}
