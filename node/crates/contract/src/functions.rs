//! A contract as a table of functions.

use std::collections::BTreeMap;
use std::future::Future;
use std::marker::PhantomData;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::{Context, Contract, ContractError, FromArgument, IntoPayload};

/// A function that a contract can offer: an `async fn` from [`Context`] and up to twelve arguments
/// to a result. Arguments and result are of types that implement [`FromArgument`] and
/// [`IntoPayload`].
pub trait Handler<Arguments>: Send + Sync + 'static {
    /// Reads the arguments and calls the function.
    fn call(&self, ctx: Context) -> BoxFuture<'static, Result<Bytes, ContractError>>;
}

/// A contract as a table of functions: the transaction's first argument names the function, the
/// others are its arguments.
#[derive(Default)]
pub struct Functions {
    table: BTreeMap<String, Box<dyn Entry>>,
}

impl Functions {
    /// A contract without functions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function; it takes the place of one of the same name.
    #[must_use]
    pub fn on<A: 'static>(mut self, name: impl Into<String>, function: impl Handler<A>) -> Self {
        self.table.insert(name.into(), Box::new(Typed(function, PhantomData::<fn(A)>)));
        self
    }

    /// The names of the functions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.table.keys().map(String::as_str)
    }

    fn unknown(&self, name: &str) -> ContractError {
        let known = self.names().collect::<Vec<_>>().join(", ");
        ContractError::UnknownFunction { name: name.chars().take(100).collect(), known }
    }
}

#[async_trait]
impl Contract for Functions {
    async fn invoke(&self, ctx: Context) -> Result<Bytes, ContractError> {
        match self.table.get(ctx.function()) {
            Some(function) => function.call(ctx).await,
            None => Err(self.unknown(ctx.function())),
        }
    }

    /// Initialization needs no function: without one it succeeds and does nothing.
    async fn init(&self, ctx: Context) -> Result<Bytes, ContractError> {
        if ctx.function().is_empty() { Ok(Bytes::new()) } else { self.invoke(ctx).await }
    }
}

/// A handler without its arguments' types.
trait Entry: Send + Sync {
    fn call(&self, ctx: Context) -> BoxFuture<'static, Result<Bytes, ContractError>>;
}

struct Typed<H, A>(H, PhantomData<fn(A)>);

impl<H: Handler<A>, A> Entry for Typed<H, A> {
    fn call(&self, ctx: Context) -> BoxFuture<'static, Result<Bytes, ContractError>> {
        self.0.call(ctx)
    }
}

fn argument<T: FromArgument>(ctx: &Context, index: usize) -> Result<T, ContractError> {
    let argument = ctx.args().get(index).cloned().unwrap_or_default();
    T::from_argument(&argument).map_err(|reason| ContractError::Argument {
        function: ctx.function().to_owned(),
        index: index + 1,
        reason,
    })
}

fn check_count(ctx: &Context, expected: usize) -> Result<(), ContractError> {
    let got = ctx.args().len();
    if got == expected {
        return Ok(());
    }
    Err(ContractError::ArgumentCount { function: ctx.function().to_owned(), expected, got })
}

macro_rules! handlers {
    ($( ($($name:ident $index:literal)*) = $count:literal; )*) => { $(
        impl<F, Fut, R, $($name),*> Handler<($($name,)*)> for F
        where
            F: Fn(Context, $($name),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<R, ContractError>> + Send + 'static,
            R: IntoPayload + 'static,
            $($name: FromArgument + 'static,)*
        {
            fn call(&self, ctx: Context) -> BoxFuture<'static, Result<Bytes, ContractError>> {
                let start = || -> Result<Fut, ContractError> {
                    check_count(&ctx, $count)?;
                    Ok(self(ctx.clone(), $(argument::<$name>(&ctx, $index)?),*))
                };
                match start() {
                    Ok(running) => running.map(|result| result?.into_payload()).boxed(),
                    Err(error) => std::future::ready(Err(error)).boxed(),
                }
            }
        }
    )* };
}

handlers! {
    () = 0;
    (A 0) = 1;
    (A 0 B 1) = 2;
    (A 0 B 1 C 2) = 3;
    (A 0 B 1 C 2 D 3) = 4;
    (A 0 B 1 C 2 D 3 E 4) = 5;
    (A 0 B 1 C 2 D 3 E 4 G 5) = 6;
    (A 0 B 1 C 2 D 3 E 4 G 5 H 6) = 7;
    (A 0 B 1 C 2 D 3 E 4 G 5 H 6 I 7) = 8;
    (A 0 B 1 C 2 D 3 E 4 G 5 H 6 I 7 J 8) = 9;
    (A 0 B 1 C 2 D 3 E 4 G 5 H 6 I 7 J 8 K 9) = 10;
    (A 0 B 1 C 2 D 3 E 4 G 5 H 6 I 7 J 8 K 9 L 10) = 11;
    (A 0 B 1 C 2 D 3 E 4 G 5 H 6 I 7 J 8 K 9 L 10 M 11) = 12;
}
