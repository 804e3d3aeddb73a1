use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server, and the stream from it as from the same machine and as from another one.
async fn pairs() -> [(TcpStream, Gathering); 2] {
    let mut pairs = Vec::new();
    for near in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mine = connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        far.set_nodelay(true).unwrap();
        let mut gathering = Gathering::new(mine);
        assert!(gathering.near);
        gathering.near = near;
        pairs.push((far, gathering));
    }
    pairs.try_into().ok().unwrap()
}

#[tokio::test]
async fn few_bytes_arrive_after_the_wait_and_lower_the_stream() {
    for (mut far, mut near) in pairs().await {
        near.raise().unwrap();
        far.write_all(b"lone").await.unwrap();
        let mut buffer = [0; 16];
        let read = tokio::time::timeout(Duration::from_secs(5), near.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&buffer[..read], b"lone");
        assert!(!near.raised);
    }
}

#[tokio::test]
async fn an_empty_wait_lowers_the_stream_and_the_next_byte_wakes() {
    for (mut far, mut near) in pairs().await {
        near.raise().unwrap();
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 16];
            let read = near.read(&mut buffer).await.unwrap();
            (near.raised, buffer[..read].to_vec())
        });
        // Longer than the wait: not a race but the case under test.
        tokio::time::sleep(GATHER_TIME * 5).await;
        far.write_all(b"x").await.unwrap();
        let (raised, bytes) = tokio::time::timeout(Duration::from_secs(5), reader)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(bytes, b"x");
        assert!(!raised);
    }
}

#[tokio::test]
async fn a_flood_raises_the_stream_and_every_byte_arrives_in_order() {
    const BYTES: usize = 8 << 20;
    for (mut far, mut near) in pairs().await {
        let writer = tokio::spawn(async move {
            let all: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
            far.write_all(&all).await.unwrap();
        });
        let (mut buffer, mut at, mut raised) = (vec![0; 1 << 20], 0_usize, false);
        loop {
            let read = near.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            raised |= near.raised;
            for byte in &buffer[..read] {
                assert_eq!(usize::from(*byte), at % 251);
                at += 1;
            }
        }
        writer.await.unwrap();
        assert_eq!(at, BYTES);
        assert!(raised);
    }
}

#[test]
fn the_clock_waits_for_a_look_that_is_worth_it_and_for_nothing_else() {
    let wait = |first, bytes, millis| next_wait(first, bytes, Duration::from_millis(millis)).as_millis();
    // Nothing, and a few transactions: they are waited for no longer than ever.
    assert_eq!(wait(0, 0, 2), 2);
    assert_eq!(wait(FLOOD_BYTES - 1, FLOOD_BYTES - 1, 2), 2);
    // Small transactions, as fast as they come.
    assert_eq!(wait(FLOOD_BYTES, FLOOD_BYTES, 2), 8);
    assert_eq!(wait(FULL_BYTES, 64 << 10, 2), 6);
    assert_eq!(wait(FULL_BYTES, 192 << 10, 8), 8);
    // Large ones.
    assert_eq!(wait(FULL_BYTES, LOOK_BYTES, 3), 3);
    assert_eq!(wait(FULL_BYTES, 1 << 20, 2), 2);
    // A server that may not send more than the window holds.
    assert_eq!(wait(2 * FULL_BYTES, 2 * FULL_BYTES, 8), 2);
}

#[tokio::test]
async fn a_raised_stream_is_written_to_however_slowly_the_server_reads() {
    const BYTES: usize = 16 << 20;
    for (mut far, mut near) in pairs().await {
        near.raise().unwrap();
        let writer = tokio::spawn(async move {
            near.write_all(&vec![7; BYTES]).await.unwrap();
            near.shutdown().await.unwrap();
        });
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), far.read_to_end(&mut all)).await;
        assert_eq!(read.unwrap().unwrap(), BYTES);
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn the_end_of_a_raised_stream_is_seen() {
    for (far, mut near) in pairs().await {
        near.raise().unwrap();
        drop(far);
        let read = tokio::time::timeout(Duration::from_secs(5), near.read(&mut [0; 16])).await;
        assert_eq!(read.unwrap().unwrap(), 0);
    }
}
