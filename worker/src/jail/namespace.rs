//! A network of the run's own, in which nothing lies but its loopback. For a local file nothing listens there at all. For
//! remote input the launcher listens on the input's port inside and hands the listening socket to the worker, which so
//! serves a network it cannot otherwise reach; ffprobe then reaches that one server and nothing else.
//!
//! The launcher calls [`enter`]; the worker holds the other end ([`Handover`]) of the launcher's standard input, which is
//! a socket pair for as long as it is no file. Nothing here knows what is served.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Pair;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::{Order, Reach, kernel};

/// What goes along with the listening socket; a message needs a byte.
const LISTENER: &[u8] = b"L";
/// Powers over files of other owners, which end at the border of a new user namespace.
const OVER_FILES: CapabilitySet = CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::DAC_OVERRIDE);

/// Leaves the machine's network for an empty one of this process's own.
pub(super) fn enter(order: &Order) -> Result<(), String> {
    match order.reach {
        Reach::File => leave(order),
        Reach::Loopback { port } => {
            let origin = openat(CWD, "/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| format!("/proc/self/ns/net: {e}"))?;
            leave(order)?;
            let opened = loopback_up().and_then(|()| listen_and_hand_over(port));
            opened.map_err(|e| {
                // better the machine's network behind Landlock than one where nobody answers
                let back = rustix::thread::move_into_link_name_space(origin.as_fd(), Some(LinkNameSpaceType::Network));
                let stuck = back.map_or_else(|e| format!(", and there is no way back: {e}"), |()| String::new());
                format!("{e}{stuck}")
            })
        }
    }
}

fn leave(order: &Order) -> Result<(), String> {
    let refused = match kernel::enter_new(UnshareFlags::NEWNET) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let held = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    let needs_files = order.reach == Reach::File && held.intersects(OVER_FILES);
    if refused.raw_os_error() != Some(libc::EPERM) || needs_files || order.user.is_some() {
        return Err(format!("the kernel gives no network of its own (CAP_SYS_ADMIN): {refused}"));
    }
    // without privilege: as the administrator of a new world, which has no power over the files of this one
    kernel::enter_new(UnshareFlags::NEWUSER | UnshareFlags::NEWNET)
        .map_err(|e| format!("the kernel gives no network of its own (user namespaces): {e}"))
}

/// Sets the flag "up" of interface 1, which in a new network is the loopback (rtnetlink(7)).
fn loopback_up() -> Result<(), String> {
    const NEW_LINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
    const LENGTH: u32 = 32;
    const UP: u32 = 1;
    let failed = |e: Errno| format!("bringing the loopback up: {e}");
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend_from_slice(&LENGTH.to_ne_bytes());
    message.extend_from_slice(&NEW_LINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message.extend_from_slice(&[0; 8]); // sequence, sender
    message.extend_from_slice(&[0; 4]); // family, type
    for field in [1, UP, UP] {
        message.extend_from_slice(&u32::to_ne_bytes(field)); // index, flags, which of them change
    }
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(failed)?;
    rustix::net::send(&socket, &message, SendFlags::empty()).map_err(failed)?;
    let mut answer = [0_u8; 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).map_err(failed)?;
    // after a header of 16 bytes stands an error number, negative or 0
    match answer[..length].get(16..20).and_then(|n| n.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(failed(Errno::from_raw_os_error(error.saturating_neg()))),
        None => Err("bringing the loopback up: the kernel's answer is cut".into()),
    }
}

fn listen_and_hand_over(port: u16) -> Result<(), String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|e| format!("listening inside: {e}"))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(rustix::stdio::stdin(), &[IoSlice::new(LISTENER)], &mut control, SendFlags::NOSIGNAL)
        .map(drop)
        .map_err(|e| format!("handing the listener over: {e}"))
}

/// The worker's end.
pub(super) struct Handover(UnixStream);

impl Handover {
    /// Both ends: the worker's, and the one that becomes the launcher's standard input.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = Pair::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Self(UnixStream::from_std(ours)?), theirs.into()))
    }

    /// The listener inside the run's own network; none if the launcher became the program without one.
    pub(super) async fn receive(&self) -> io::Result<Option<TcpListener>> {
        self.0.async_io(Interest::READABLE, || take(&self.0)).await
    }
}

fn take(socket: &UnixStream) -> io::Result<Option<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            return Ok(descriptors.next().map(TcpListener::from));
        }
    }
    Ok(None)
}
