//! Groups: who gets what.

use crate::sim::script::play;
use crate::sim::setup::Setup;

#[test]
fn making_a_group_is_idempotent_and_tells_everyone() {
    play(
        &Setup::cores(3),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u1 > create g1 n1 "tea" u2 u3 u2
        u1 < ready g1 n1
        u2 < @1 g1#1 u1 Create "tea" u1 u2 u3
        tick 1
        u1 < @1 g1#1 u1 Create "tea" u1 u2 u3
        u1 > create g1 n1 "tea" u2 u3
        u1 < ready g1 n1
        u1 > create g1 n1 "coffee" u2
        u1 < rejected n1 NonceReused
        crash 2
        u1 < lost
        u2 < lost
        u1 > hello @1
        u1 < welcome @1 Resumed
        u1 > create g1 n1 "tea" u2 u3
        u1 < ready g1 n1
        u3 > hello @0
        u3 < welcome @1 Resumed
        u3 < page to @1 end: [@1 g1#1 u1 Create "tea" u1 u2 u3]
        "#,
    );
}

#[test]
fn members_get_what_is_said_from_their_coming_to_their_going() {
    play(
        &Setup::cores(3),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u3 > hello
        u3 < welcome @0 Fresh
        u1 > create g1 n1 "" u2
        u1 < ready g1 n1
        u2 < @1 g1#1 u1 Create "" u1 u2
        u1 > post g1 n2 "before"
        u1 < @1 g1#1 u1 Create "" u1 u2
        u1 < posted n2 #2
        u2 < @2 g1#2 u1 "before"
        u3 > post g1 n3 "not mine"
        u3 < rejected n3 NotMember
        u1 > add g1 n4 member u3
        u1 < @2 g1#2 u1 own
        u1 < posted n4 #3
        u2 < @3 g1#3 u1 Add u3
        u3 < @1 g1#3 u1 Add u3
        u3 > post g1 n5 "hello"
        u3 < posted n5 #4
        u1 < @3 g1#3 u1 Add u3
        u1 < @4 g1#4 u3 "hello"
        u2 < @4 g1#4 u3 "hello"
        u2 > remove g1 n6 u3
        u2 < rejected n6 NotPermitted
        u1 > remove g1 n7 u3
        u1 < posted n7 #5
        u2 < @5 g1#5 u1 Remove u3
        u3 < @2 g1#4 u3 own
        u3 < @3 g1#5 u1 Remove u3
        u1 > post g1 n8 "after"
        u1 < @5 g1#5 u1 Remove u3
        u1 < posted n8 #6
        u2 < @6 g1#6 u1 "after"
        u3 < nothing
        u3 > post g1 n9 "still?"
        u3 < rejected n9 NotMember
        u3 > history g1 back #0 2     // Up to where she went.
        u3 < history g1 more: [g1#4 u3 "hello"] [g1#5 u1 Remove u3]
        u3 > history g1 back #3 2     // From where it began.
        u3 < history g1: [g1#1 u1 Create "" u1 u2] [g1#2 u1 "before"]
        tick 1
        u1 < @6 g1#6 u1 own
        "#,
    );
}

#[test]
fn an_owner_who_leaves_is_followed_by_the_longest_member() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u1 > create g1 n1 "" u2 u3
        u1 < ready g1 n1
        u2 < @1 g1#1 u1 Create "" u1 u2 u3
        u2 > add g1 n2 member u4
        u2 < rejected n2 NotPermitted
        u1 > leave g1 n3
        u1 < @1 g1#1 u1 Create "" u1 u2 u3
        u1 < posted n3 #2
        u2 < @2 g1#2 u1 Leave u1
        tick 1
        u1 < @2 g1#2 u1 Leave u1
        u2 > add g1 n4 admin u4       // She is the owner now.
        u2 < posted n4 #3
        tick 1
        u2 < @3 g1#3 u2 Add u4
        crash
        u1 < lost
        u2 < lost
        u2 > hello @3
        u2 < welcome @3 Resumed
        u2 > remove g1 n5 u4
        u2 < posted n5 #4
        tick 1
        u2 < @4 g1#4 u2 Remove u4
        u1 > hello @2
        u1 < welcome @2 Resumed
        u1 > leave g1 n3              // A repeat, after she has left.
        u1 < posted n3 #2
        u1 > leave g1 n6
        u1 < rejected n6 NotMember
        u4 > hello @0
        u4 < welcome @2 Resumed
        u4 < page to @2 end: [@1 g1#3 u2 Add u4] [@2 g1#4 u2 Remove u4]
        "#,
    );
}

#[test]
fn a_group_has_its_bound() {
    let setup = Setup::cores(2).with(|limits| {
        limits.told.group_members_max = 3;
        limits.sequencer.group_members_max = 3;
    });
    play(
        &setup,
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > create g1 n1 "" u2 u3 u4
        u1 < rejected n1 ChannelFull
        u1 > create g2 n2 "" u2
        u1 < ready g2 n2
        u1 > add g2 n3 member u3 u4
        u1 < @1 g2#1 u1 Create "" u1 u2
        u1 < rejected n3 ChannelFull
        u1 > add g2 n4 member u2
        u1 < rejected n4 Malformed
        u1 > add u2 n5 member u3
        u1 < rejected n5 NotPermitted
        "#,
    );
}
