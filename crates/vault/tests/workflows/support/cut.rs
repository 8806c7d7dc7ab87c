//! Work that ends between two of its steps, as a kill ends it.

use std::future::{Future, poll_fn};
use std::task::Poll;

/// Polls a future so many times at most, then drops it; what it gave, and how often it was polled.
pub(crate) async fn cut<F: Future>(future: F, polls: usize) -> (Option<F::Output>, usize) {
    let (mut future, mut count) = (Box::pin(future), 0);
    let given = poll_fn(|context| {
        if count == polls {
            return Poll::Ready(None);
        }
        count += 1;
        future.as_mut().poll(context).map(Some)
    });
    (given.await, count)
}

/// Instants to cut work at that takes so many polls: spread over all of it, drawn within each part.
pub(crate) fn instants(total: usize, cuts: usize, seed: u64) -> Vec<usize> {
    let mut state = seed;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    let part = (total / cuts).max(1);
    (0..cuts).map(|number| number * part + draw() % part).collect()
}
