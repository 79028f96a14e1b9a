//! Compression of large answers, as kube-apiserver compresses them (`apiserver/pkg/endpoints/handlers/responsewriters`).

use std::io::Write as _;

use bytes::{Buf as _, Bytes};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, HeaderValue, VARY};

use crate::body::{Body, Slices};
use crate::reply::Reply;

/// The same answer, compressed where that pays. Streams are not.
pub(crate) async fn compress(reply: Reply) -> Reply {
    if reply.headers().contains_key(CONTENT_ENCODING) {
        return reply;
    }
    let mut reply = deflated(reply, BYTES_MIN).await;
    let headers = reply.headers_mut();
    let varies = headers
        .get_all(VARY)
        .iter()
        .any(|varies| varies == "Accept-Encoding");
    if headers.contains_key(CONTENT_ENCODING) && !varies {
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    reply
}

/// The same answer, compressed whatever its size is, as a server of metrics does it.
pub(crate) async fn whole(reply: Reply) -> Reply {
    deflated(reply, 1).await
}

async fn deflated(mut reply: Reply, bytes_min: usize) -> Reply {
    let Some(slices) = reply.body_mut().take_over(bytes_min) else {
        return reply;
    };
    // Milliseconds for each megabyte: not on a thread that others wait for.
    let plain = slices.clone();
    let compressed = tokio::task::spawn_blocking(move || deflate(slices)).await;
    let Ok(Ok(compressed)) = compressed else {
        *reply.body_mut() = Body::whole(plain);
        return reply;
    };
    *reply.body_mut() = Body::whole(compressed);
    reply
        .headers_mut()
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    reply
}

fn deflate(mut slices: Slices) -> std::io::Result<Bytes> {
    let compressed = Vec::with_capacity(slices.remaining() / 4);
    let mut encoder = GzEncoder::new(compressed, Compression::fast());
    while slices.has_remaining() {
        let chunk = slices.chunk();
        encoder.write_all(chunk)?;
        let written = chunk.len();
        slices.advance(written);
    }
    encoder.finish().map(Bytes::from)
}

/// Smaller answers go as they are.
const BYTES_MIN: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http::Response;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn only_large_answers_are_compressed() {
        let small = Response::new(Body::whole(Bytes::from(vec![b'a'; BYTES_MIN])));
        let small = compress(small).await;
        assert!(small.headers().is_empty());
        let mut slices = Slices::from(Bytes::from(vec![b'a'; BYTES_MIN]));
        slices.push("b");
        let large = compress(Response::new(Body::whole(slices))).await;
        assert_eq!(large.headers()[CONTENT_ENCODING], "gzip");
        let body = large.into_body().collect().await.unwrap().to_bytes();
        let mut text = String::new();
        GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
        assert!(body.len() < 2000 && text.len() == BYTES_MIN + 1 && text.ends_with("ab"));
    }
}
