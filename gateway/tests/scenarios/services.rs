//! Services: what they do for others, whose sessions they end, and whom they erase.

use gateway::config::Membership;

use crate::sim::script::play;
use crate::sim::setup::Setup;

#[test]
fn a_service_acts_for_many_on_one_connection_and_hears_nothing_else() {
    play(
        &Setup::cores(3),
        r#"
        s1 > hello
        s1 < service
        u2 > hello
        u2 < welcome @0 Fresh
        s1 > as u1 post u2 n1 "for one"
        s1 < posted n1 #1
        u2 < @1 u1:u2#1 u1 "for one"
        s1 > as u3 post u2 n1 "for another"
        s1 < posted n1 #1
        u2 < @2 u2:u3#1 u3 "for another"
        s1 > as u1 post u2 n1 "for one" retry
        s1 < posted n1 #1
        s1 > as u2 read u1:u2 #1
        s1 < done Accepted
        u2 < @3 u1:u2 u2 read #1
        s1 > as u3 read u1:u2 #1
        s1 < rejected n0 NotMember
        s1 > as u2 history u1 back #0
        s1 < history u1:u2: [u1:u2#1 u1 "for one"]
        s1 > as u9 history u1:u2 back #0
        s1 < rejected n0 NotMember
        s1 > as u2 list last 1
        s1 < list more: [u2:u3 #1 read #0 (u2:u3#1 u3 "for another")]
        s1 > as u2 list @2
        s1 < list: [u1:u2 #1 read #1]
        s1 > ping 7
        s1 < pong 7
        u1 > hello @0
        u1 < welcome @2 Resumed
        u1 < page to @2 end: [@1 u1:u2#1 u1 "for one"] [@2 u1:u2 u2 read #1]
        "#,
    );
}

#[test]
fn several_services_are_there_at_once_and_a_repeat_on_another_gets_the_first_answer() {
    play(
        &Setup::cores(2),
        r#"
        s1 > hello
        s1 < service
        s2 > hello
        s2 < service
        s1 > as u1 create g1 n5 "tea" u2
        s1 < ready g1 n5
        s2 > as u1 create g1 n5 "tea" u2
        s2 < ready g1 n5
        crash 2
        s1 < lost
        s2 < lost
        s2 > hello
        s2 < service
        s2 > as u1 create g1 n5 "tea" u2
        s2 < ready g1 n5
        s2 > as u1 add g1 n6 member u3
        s2 < posted n6 #2
        s2 > as u2 remove g1 n7 u3
        s2 < rejected n7 NotPermitted
        s2 > as u3 leave g1 n8
        s2 < posted n8 #3
        "#,
    );
}

#[test]
fn what_is_not_for_a_service_or_only_for_one_is_refused() {
    play(
        &Setup::cores(2),
        r#"
        s1 > hello
        s1 < service
        s1 > post u2 n1 "for nobody"
        s1 < rejected n1 Malformed
        s1 > as u1 sync @0
        s1 < rejected n0 NotPermitted
        s1 > as u1 ack @0
        s1 < rejected n0 NotPermitted
        s1 > as u1 typing u2
        s1 < rejected n0 NotPermitted
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > as u2 post u3 n1 "forged"
        u1 < rejected n1 NotPermitted
        u1 > end u2
        u1 < rejected n0 NotPermitted
        u1 > erase u2
        u1 < rejected n0 NotPermitted
        u1 > post u2 n2 "mine"
        u1 < posted n2 #1
        tick 1
        u1 < @1 u1:u2#1 u1 own
        "#,
    );
}

#[test]
fn where_services_keep_the_roles_only_they_change_groups() {
    let setup = Setup::cores(2).with(|limits| limits.membership = Membership::Service);
    play(
        &setup,
        r#"
        s1 > hello
        s1 < service
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > create g1 n1 "mine" u2
        u1 < rejected n1 NotPermitted
        s1 > as u2 create g1 n1 "theirs" u1
        s1 < ready g1 n1
        u1 < @1 g1#1 u2 Create "theirs" u2 u1
        u1 > leave g1 n2
        u1 < rejected n2 NotPermitted
        s1 > as u1 add g1 n3 admin u3
        s1 < posted n3 #2
        u1 < @2 g1#2 u1 Add u3
        s1 > as u9 remove g1 n4 u2
        s1 < posted n4 #3
        u1 < @3 g1#3 u9 Remove u2
        u1 > post g1 n5 "still a member"
        u1 < posted n5 #4
        tick 1
        u1 < @4 g1#4 u1 own
        "#,
    );
}

#[test]
fn what_was_issued_until_sessions_end_is_refused_on_every_core_and_after_a_crash() {
    play(
        &Setup::cores(3),
        r#"
        s1 > hello
        s1 < service
        u1 > hello
        u1 < welcome @0 Fresh
        u1.2 > hello issued 500
        u1.2 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        s1 > end u1.1 100
        s1 < done
        u1 < closed 4411
        u1 < lost
        u1 > hello
        u1 < closed 4411
        u1 < lost
        u1.2 > ping 1
        u1.2 < pong 1
        s1 > end u1 300
        s1 < done
        s1 > end u1 300   // Repeated, and an older one: nothing changes.
        s1 < done
        s1 > end u1 200
        s1 < done
        u1.2 > ping 2
        u1.2 < pong 2
        u1.3 > hello issued 300
        u1.3 < closed 4411
        u1.3 < lost
        u1 > hello issued 301
        u1 < welcome @0 Fresh
        crash 2
        s1 < lost
        u1 < lost
        u1.2 < lost
        u2 < lost
        u1.3 > hello issued 300
        u1.3 < closed 4411
        u1.3 < lost
        u1 > hello issued 301
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        "#,
    );
}

#[test]
fn a_ticket_ends_with_the_login_that_it_descends_from() {
    play(
        &Setup::cores(2),
        r#"
        s1 > hello
        s1 < service
        u1 > hello issued 100
        u1 < welcome @0 Fresh
        tick 20
        u1 > bye
        u1 < closed 1000
        u1 < lost
        u1 > hello ticket @0
        u1 < welcome @0 Resumed
        s1 > end u1.1 100
        s1 < done
        u1 < closed 4411
        u1 < lost
        u1 > hello ticket @0
        u1 < closed 4411
        u1 < lost
        "#,
    );
}

#[test]
fn a_crash_before_an_ending_is_durable_leaves_it_to_be_repeated() {
    play(
        &Setup::cores(2),
        r#"
        s1 > hello
        s1 < service
        u1 > hello
        u1 < welcome @0 Fresh
        hold
        s1 > end u1 50
        u1 < closed 4411    // At once; but nothing is answered before the disk has it.
        u1 < lost
        s1 < nothing
        crash 2
        release
        s1 < lost
        u1 > hello
        u1 < welcome @0 Fresh
        s1 > hello
        s1 < service
        s1 > end u1 50
        s1 < done
        u1 < closed 4411
        u1 < lost
        u1 > hello
        u1 < closed 4411
        u1 < lost
        "#,
    );
}

#[test]
fn who_is_erased_leaves_her_groups_and_has_no_inbox_left() {
    play(
        &Setup::cores(3),
        r#"
        s1 > hello
        s1 < service
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u1 > create g1 n1 "" u2
        u1 < ready g1 n1
        u2 < @1 g1#1 u1 Create "" u1 u2
        u1 > post g1 n2 "stays"
        u1 < @1 g1#1 u1 Create "" u1 u2
        u1 < posted n2 #2
        u2 < @2 g1#2 u1 "stays"
        u1 > post u2 n3 "stays, too"
        u1 < @2 g1#2 u1 own
        u1 < posted n3 #1
        u2 < @3 u1:u2#1 u1 "stays, too"
        s1 > erase u1
        u1 < @3 u1:u2#1 u1 own
        u1 < closed 4411
        u1 < lost
        tick 3
        s1 < done
        u2 < @4 g1#3 u1 Leave u1
        u2 > post u1 n1 "are you there?"
        u2 < posted n1 #2
        tick 1
        u2 < @5 u1:u2#2 u2 own
        u1 > hello issued 900
        u1 < closed 4411
        u1 < lost
        s1 > as u1 list
        s1 < list:
        s1 > as u2 history g1 back #0
        s1 < history g1: [g1#1 u1 Create "" u1 u2] [g1#2 u1 "stays"] [g1#3 u1 Leave u1]
        s1 > erase u1
        tick 3
        s1 < done
        crash 2
        s1 < lost
        u2 < lost
        s1 > hello
        s1 < service
        s1 > as u1 list
        s1 < list:
        u1 > hello issued 900
        u1 < closed 4411
        u1 < lost
        "#,
    );
}

#[test]
fn an_erasure_that_a_crash_cut_is_completed_when_it_is_repeated() {
    for cut in ["", "commit\ntick 1", "commit\ntick 1\ncommit", "commit\ntick 1\ncommit\ntick 2"] {
        let text = format!(
            r#"
        s1 > hello
        s1 < service
        s1 > as u1 create g1 n1 "" u2
        s1 < ready g1 n1
        s1 > as u2 create g2 n1 "" u1
        s1 < ready g2 n1
        tick 2
        hold
        s1 > erase u1
        {cut}
        crash 3
        release
        s1 < lost
        s1 > hello
        s1 < service
        s1 > erase u1
        tick 4
        s1 < done
        s1 > as u1 list
        s1 < list:
        s1 > as u2 history g1 back #0 1
        s1 < history g1 more: [g1#2 u1 Leave u1]
        s1 > as u2 history g2 back #0 1
        s1 < history g2 more: [g2#2 u1 Leave u1]
        "#
        );
        play(&Setup::cores(2), &text);
    }
}
