//! Just enough of HTTP to ask the admin port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::STEP_TIMEOUT;

/// Status and body of `GET path`.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the admin port listens");
    stream.set_read_timeout(Some(STEP_TIMEOUT)).expect("not zero");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the admin port reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the admin port answers in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("an HTTP answer has a status"), body.to_owned())
}
