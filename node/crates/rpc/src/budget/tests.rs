use std::net::SocketAddr;

use bytes::Bytes;
use futures::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tonic::Code;
use weft_protos::methods::Requests;
use weft_types::MspId;

use super::body::{CountedBody, HeldBody};
use super::method::Method;
use super::*;

const KIB: usize = 1024;
const MANY: Method = Method { requests: Requests::Many, limit: 1 << 20, stranger_limit: 1 << 20 };
const ONE: Method = Method { requests: Requests::One, ..MANY };

fn budget() -> Budget {
    let quota = |organizations, strangers| Quota { organizations, strangers };
    let options = BudgetOptions {
        calls: quota(100, 10),
        received: quota(4000 * KIB, 1000 * KIB),
        sent: quota(100 * KIB, 100 * KIB),
        max_message: 1 << 20,
        max_query: 64 * KIB,
        first_message: Duration::from_secs(10),
        message: Duration::from_secs(60),
    };
    Budget::new(options, Refusals::default())
}

fn stranger(last: u8) -> Holder {
    Holder::address(SocketAddr::from(([10, 0, 0, last], 1)))
}

fn org(name: &str) -> Holder {
    Holder::organization(&MspId::new(name).unwrap())
}

/// A message of a length, of which only `come` bytes are there.
fn part(length: usize, come: usize) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    bytes.extend(vec![7; length]);
    bytes.truncate(5 + come);
    bytes.into()
}

fn message(length: usize) -> Bytes {
    part(length, length)
}

/// A body of these bytes, after which nothing comes and nothing ends.
fn body(call: &Call, method: Method, parts: Vec<Bytes>) -> CountedBody {
    let frames = parts.into_iter().map(|part| Ok::<_, Status>(Frame::data(part)));
    let frames = futures::stream::iter(frames).chain(futures::stream::pending());
    CountedBody::new(tonic::body::Body::new(StreamBody::new(frames)), call.clone(), method)
}

async fn next(body: &mut CountedBody) -> Result<Bytes, Code> {
    let frame = body.frame().await.expect("a frame or an error");
    frame.map(|frame| frame.into_data().unwrap()).map_err(|status| status.code())
}

fn received(call: &Call) -> usize {
    call.0.held.lock().received.as_ref().map_or(0, Share::units)
}

#[tokio::test]
async fn unfinished_messages_hold_no_more_than_a_share() {
    let budget = budget();
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..5 {
        let call = budget.enter(stranger(1)).unwrap();
        let mut body = body(&call, MANY, vec![part(900 * KIB, 300 * KIB)]);
        match next(&mut body).await {
            Ok(_) => open.push((call, body)),
            Err(code) => {
                assert_eq!(code, Code::ResourceExhausted);
                assert!(body.frame().await.is_none(), "an error is the end");
                refused += 1;
            }
        }
    }
    assert_eq!((open.len(), refused), (2, 3), "300 KiB each, of 800 KiB for one address");
    // Whoever sends little goes on, at that address too.
    let short = budget.enter(stranger(1)).unwrap();
    assert!(next(&mut body(&short, MANY, vec![message(8 * KIB)])).await.is_ok());
    // And organizations have a pool of their own.
    let member = budget.enter(org("Org1MSP")).unwrap();
    assert!(next(&mut body(&member, MANY, vec![part(900 * KIB, 800 * KIB)])).await.is_ok());
    open.clear();
    let again = budget.enter(stranger(1)).unwrap();
    assert!(next(&mut body(&again, MANY, vec![part(900 * KIB, 700 * KIB)])).await.is_ok());
}

#[tokio::test]
async fn a_stream_gives_back_what_was_handled_and_a_single_message_is_held_to_the_end() {
    let budget = budget();
    let call = budget.enter(org("Org1MSP")).unwrap();
    let mut stream = body(&call, MANY, vec![message(100 * KIB), part(100 * KIB, 50 * KIB)]);
    next(&mut stream).await.unwrap();
    assert_eq!(received(&call), 100 * KIB + 5 - ALLOWANCE);
    next(&mut stream).await.unwrap();
    assert_eq!(received(&call), 50 * KIB + 5 - ALLOWANCE);

    let call = budget.enter(org("Org1MSP")).unwrap();
    let mut single = body(&call, ONE, vec![message(100 * KIB), message(0)]);
    next(&mut single).await.unwrap();
    assert_eq!(next(&mut single).await, Err(Code::InvalidArgument));
    drop(single);
    assert_eq!(received(&call), 100 * KIB + 5 - ALLOWANCE);
}

#[tokio::test(start_paused = true)]
async fn messages_have_to_begin_and_to_end_in_time() {
    let budget = budget();
    let call = budget.enter(stranger(1)).unwrap();
    let started = tokio::time::Instant::now();
    let mut silent = body(&call, MANY, vec![]);
    assert_eq!(next(&mut silent).await, Err(Code::DeadlineExceeded));
    assert_eq!(started.elapsed().as_secs(), 10);
    let mut half = body(&call, MANY, vec![message(10), part(10, 3)]);
    next(&mut half).await.unwrap();
    next(&mut half).await.unwrap();
    assert_eq!(next(&mut half).await, Err(Code::DeadlineExceeded));
    assert_eq!(started.elapsed().as_secs(), 70);
    // A call with one message has to end; a stream may rest.
    let mut single = body(&call, ONE, vec![message(10)]);
    next(&mut single).await.unwrap();
    assert_eq!(next(&mut single).await, Err(Code::DeadlineExceeded));
    let mut idle = body(&call, MANY, vec![message(10)]);
    next(&mut idle).await.unwrap();
    let hour = Duration::from_secs(3600);
    assert!(tokio::time::timeout(hour, idle.frame()).await.is_err());
}

#[tokio::test]
async fn the_size_of_a_message_depends_on_who_sends_it() {
    let budget = budget();
    let gossip = Method { stranger_limit: 64 * KIB, ..MANY };
    let call = budget.enter(stranger(1)).unwrap();
    let parts = || vec![message(1), part(100 * KIB, 1)];
    let mut unknown = body(&call, gossip, parts());
    next(&mut unknown).await.unwrap();
    assert_eq!(next(&mut unknown).await, Err(Code::ResourceExhausted));
    let mut known = body(&call, gossip, parts());
    next(&mut known).await.unwrap();
    call.own(&org("Org1MSP")).unwrap();
    next(&mut known).await.unwrap();
}

#[test]
fn strangers_do_not_take_the_calls_and_slots_of_organizations() {
    let budget = budget();
    let strangers: Vec<_> =
        (0..=255).filter_map(|last| budget.enter(stranger(last)).ok()).collect();
    assert!((1..=10).contains(&strangers.len()), "{}", strangers.len());
    let first = budget.enter(org("Org1MSP")).unwrap();
    // A stranger who has proved who it is makes room for others.
    assert_eq!(strangers[0].own(&org("Org2MSP")).unwrap(), org("Org2MSP"));
    assert_eq!(strangers[0].own(&org("Org3MSP")).unwrap(), org("Org2MSP"), "once is for ever");
    assert_eq!(first.own(&org("Org3MSP")).unwrap(), org("Org1MSP"));

    let slots = budget.slots("deliver_streams", 100);
    let fill =
        |holder: &Holder| std::iter::from_fn(|| slots.enter(holder).ok()).collect::<Vec<_>>();
    let taken: Vec<_> = (0..=255).flat_map(|last| fill(&stranger(last))).collect();
    assert!(taken.len() <= 7, "{}", taken.len());
    assert_eq!(slots.free(), 100);
    let one = fill(&org("Org1MSP"));
    assert_eq!(one.len(), 80);
    assert!(!fill(&org("Org2MSP")).is_empty(), "one organization has not taken all");
    assert_eq!(Slots::new("few", 1).enter(&org("Org1MSP")).map(|slot| slot.units()), Ok(1));
}

#[tokio::test]
async fn an_answer_waits_until_others_have_left() {
    let budget = budget();
    let answer = |call: &Call| {
        let data = Bytes::from(vec![1; 60 * KIB]);
        HeldBody::new(http_body_util::Full::new(data), call.clone())
    };
    let call = budget.enter(org("Org1MSP")).unwrap();
    let (mut first, mut second) = (answer(&call), answer(&call));
    let leaving = first.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(leaving.len(), 60 * KIB);
    assert!(futures::poll!(std::pin::pin!(second.frame())).is_pending());
    // Another organization does not wait for this one.
    let other = budget.enter(org("Org2MSP")).unwrap();
    let small = Bytes::from_static(b"answer");
    let mut small = HeldBody::new(http_body_util::Full::new(small), other);
    assert!(small.frame().await.unwrap().is_ok());
    // What has left, in whatever pieces, makes room.
    let tail = leaving.slice(10..);
    drop(leaving);
    assert!(futures::poll!(std::pin::pin!(second.frame())).is_pending());
    drop(tail);
    let second = second.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(second.len(), 60 * KIB);
}

#[test]
fn an_ipv6_host_is_one_holder_whatever_addresses_it_uses() {
    let at = |text: &str| Holder::address(text.parse().unwrap());
    assert_eq!(at("[2001:db8::1]:1"), at("[2001:db8::ffff:1]:2"));
    assert_ne!(at("[2001:db8::1]:1"), at("[2001:db8:0:1::1]:1"));
    assert_eq!(at("[::ffff:10.0.0.1]:1"), at("10.0.0.1:9"));
}
