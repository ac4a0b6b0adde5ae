//! The layer that counts the requests of a connection, hears them as its traffic allows, and hands their answers over in pieces.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::Visitor;
use crate::traffic::Pieces;

/// The layer around every service of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Counting;

impl<S> Layer<S> for Counting {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted(inner)
    }
}

/// A service whose requests and answers are counted.
#[derive(Clone)]
pub(crate) struct Counted<S>(S);

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let traffic = request.extensions().get::<Visitor>().map(Visitor::traffic);
        // The one that said it is ready is the one to call.
        let other = self.0.clone();
        let mut service = core::mem::replace(&mut self.0, other);
        Box::pin(async move {
            let Some(traffic) = traffic else { return service.call(request).await };
            let turn = traffic.begin();
            let request = request.map(|body| Body::new(turn.hear(body)));
            let response = service.call(request).await?;
            turn.is_done();
            Ok(response.map(|body| Body::new(Pieces::of(body, turn))))
        })
    }
}
