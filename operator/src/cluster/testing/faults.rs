//! What goes wrong.

use std::time::Duration;

use super::request::Call;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this code, and nothing is done.
    Refuse(u16),
    /// It is done, and the answer is this code.
    DoneBut(u16),
    /// The connection breaks before it is done.
    Reset,
    /// It is done, and the connection breaks before the answer.
    Lost,
    /// It is not done, and never answered.
    Hang,
    /// It is done after this time.
    Delay(Duration),
    /// It is done, and whoever asked is dead from then on: the answer and every other request
    /// fail until [`super::ApiServer::restart`].
    Crash,
}

/// Decides what happens to each request.
pub type Plan = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// The asker dies right after its `number`th write was done.
pub fn crash_after(number: usize) -> Plan {
    Box::new(move |call| (call.write == Some(number)).then_some(Fault::Crash))
}

/// This happens to the `number`th write, once.
pub fn at_write(number: usize, fault: Fault) -> Plan {
    Box::new(move |call| (call.write == Some(number)).then_some(fault))
}

/// This happens to every `each`th write.
pub fn at_every(each: usize, fault: Fault) -> Plan {
    Box::new(move |call| call.write.is_some_and(|number| number % each == 0).then_some(fault))
}
