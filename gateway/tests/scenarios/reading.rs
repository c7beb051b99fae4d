//! Read markers, history, and the list of conversations.

use crate::sim::script::play;
use crate::sim::setup::Setup;

#[test]
fn a_read_marker_reaches_the_users_own_devices_and_the_others() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u2.2 > hello
        u2.2 < welcome @0 Fresh
        u1 > post u2 n1 "hi" &
        u1 > post u2 n2 "ho"
        u1 < posted n1 #1
        u1 < posted n2 #2
        u2 < @1 u1:u2#1 u1 "hi"
        u2 < @2 u1:u2#2 u1 "ho"
        u2.2 < @1 u1:u2#1 u1 "hi"
        u2.2 < @2 u1:u2#2 u1 "ho"
        u2 > read u1 #1
        u2 < @3 u1:u2 u2 read #1
        u2.2 < @3 u1:u2 u2 read #1
        u1 < @1 u1:u2#1 u1 own
        u1 < @2 u1:u2#2 u1 own
        u1 < @3 u1:u2 u2 read #1
        u2 > list
        u2 < list: [u1:u2 #2 read #1]
        u2 > read u1 #1               // Nothing new to herself.
        u2 < nothing
        "#,
    );
}

#[test]
fn a_list_says_nothing_that_a_crash_could_take_back() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u2 > post u1 n1 "hi"
        u2 < posted n1 #1
        u1 < @1 u1:u2#1 u2 "hi"
        tick 1
        u2 < @1 u1:u2#1 u2 own
        hold
        u1 > read u2 #1
        u1 > list                     // The mark has its place and is not durable.
        u1 < list: [u1:u2 #1 read #0]
        release
        u1 < @2 u1:u2 u1 read #1
        u2 < @2 u1:u2 u1 read #1
        u1 > list
        u1 < list: [u1:u2 #1 read #1]
        "#,
    );
}

#[test]
fn a_read_marker_says_no_more_than_there_is() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > read u2 #9               // Nothing was said there.
        u1 > read u2:u3 #9            // Not hers.
        u1 > read c5 #9               // No such channel.
        u1 < nothing
        u1 > list
        u1 < list:
        u2 > hello
        u2 < welcome @0 Fresh
        u2 > post u1 n1 "hi"
        u2 < posted n1 #1
        u1 < @1 u1:u2#1 u2 "hi"
        u1 > read u2 #9
        u1 < @2 u1:u2 u1 read #1
        u2 < @1 u1:u2#1 u2 own
        u2 < @2 u1:u2 u1 read #1
        u2 > post u1 n2 "ho"
        u2 < posted n2 #2
        u1 < @3 u1:u2#2 u2 "ho"
        u1 > list
        u1 < list: [u1:u2 #2 read #1]
        tick 1
        u2 < @3 u1:u2#2 u2 own
        "#,
    );
}

#[test]
fn history_goes_both_ways_in_pages() {
    play(
        &Setup::cores(2),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u1 > post u2 n1 "1" &
        u1 > post u2 n2 "2" &
        u1 > post u2 n3 "3"
        u1 < posted n1 #1
        u1 < posted n2 #2
        u1 < posted n3 #3
        tick 1
        u1 < @1 u1:u2#1 u1 own
        u1 < @2 u1:u2#2 u1 own
        u1 < @3 u1:u2#3 u1 own
        u1 > history u2 back #0 2
        u1 < history u1:u2 more: [u1:u2#2 u1 "2"] [u1:u2#3 u1 "3"]
        u1 > history u2 back #2 2
        u1 < history u1:u2: [u1:u2#1 u1 "1"]
        u1 > history u2 on #1 2
        u1 < history u1:u2 more: [u1:u2#1 u1 "1"] [u1:u2#2 u1 "2"]
        u1 > history u2 on #3
        u1 < history u1:u2: [u1:u2#3 u1 "3"]
        u1 > history u2 on #4
        u1 < history u1:u2:
        u1 > history u3 back #0       // A pair exists before its first message.
        u1 < history u1:u3:
        u1 > history u2:u3 back #0
        u1 < rejected n0 NotMember
        u1 > history c7 back #0
        u1 < rejected n0 NotMember
        "#,
    );
}

#[test]
fn conversations_come_most_recent_first_with_what_is_unread() {
    play(
        &Setup::cores(3),
        r#"
        u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u3 > hello
        u3 < welcome @0 Fresh
        u2 > post u1 n1 "a"
        u2 < posted n1 #1
        u1 < @1 u1:u2#1 u2 "a"
        u3 > post u1 n1 "b"
        u3 < posted n1 #1
        tick 1
        u1 < @2 u1:u3#1 u3 "b"
        u1 > list
        u1 < list: [u1:u3 #1 read #0] [u1:u2 #1 read #0]
        u2 > post u1 n2 "c"
        u2 < @1 u1:u2#1 u2 own
        u2 < posted n2 #2
        u1 < @3 u1:u2#2 u2 "c"
        u1 > read u2 #1
        u1 < @4 u1:u2 u1 read #1
        u2 < @2 u1:u2#2 u2 own
        u2 < @3 u1:u2 u1 read #1
        u1 > list @0 1
        u1 < list more: [u1:u2 #2 read #1]
        u1 > list @3
        u1 < list: [u1:u3 #1 read #0]
        u3 < @1 u1:u3#1 u3 own
        crash
        u1 < lost
        u2 < lost
        u3 < lost
        u1 > hello @4
        u1 < welcome @4 Resumed
        u1 > list
        u1 < list: [u1:u2 #2 read #1] [u1:u3 #1 read #0]
        "#,
    );
}

#[test]
fn a_read_marker_in_a_large_group_is_the_readers_own() {
    let members: String = (2..=40).map(|number| format!(" u{number}")).collect();
    let all = format!("u1{members}");
    let text = format!(
        "u1 > hello
        u1 < welcome @0 Fresh
        u2 > hello
        u2 < welcome @0 Fresh
        u1 > create g1 n1 \"\"{members}
        u1 < ready g1 n1
        u2 < @1 g1#1 u1 Create \"\" {all}
        u2 > read g1 #9
        u2 < @2 g1 u2 read #1
        tick 1
        u1 < @1 g1#1 u1 Create \"\" {all}"
    );
    play(&Setup::cores(2), &text);
}
