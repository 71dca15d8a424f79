//! The jobs of a batch between the client and the database: checked one by one as they come, kept as lines in a file without
//! a name, and read again some hundreds at a time once all are there. So memory stays flat, and no transaction waits for a
//! client. A batch with a bad job is refused whole, and the answer names all that are bad.

use std::collections::{HashMap, HashSet};
use std::io::SeekFrom;
use std::sync::Arc;

use futures::{Stream, stream};
use shared::job::{NewJob, Profile};
use shared::lifecycle::batch::at;
use shared::store::job::bulk::Item;
use shared::{Code, Error};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Jobs that are stored with one statement.
const CHUNK: usize = 500;
/// Bad jobs that are named in the answer.
const NAMED: usize = 20;

/// Bytes of all spools of this process together. In a container the folder for temporary files is memory.
const ROOM: usize = 256 << 20;
/// Bytes of room that are taken at once.
const PIECE: usize = 64 << 10;

/// The room that the spools of this process share.
#[derive(Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM / PIECE)))
    }
}

/// Jobs on their way in.
pub struct Spool {
    file: BufWriter<File>,
    room: Room,
    /// What it has of the room, and how many bytes of that are free.
    taken: Option<OwnedSemaphorePermit>,
    free: usize,
    most: i32,
    count: i32,
    names: HashSet<String>,
    profiles: HashMap<Profile, u64>,
    first_bad: Option<Error>,
    bad: Vec<i32>,
    bad_count: u64,
}

impl Spool {
    /// An empty one, for up to `most` jobs.
    pub async fn new(most: i32, room: &Room) -> Result<Self, Error> {
        let file = tokio::task::spawn_blocking(tempfile::tempfile).await.map_err(Error::internal)?;
        let file = file.map_err(full_or_broken)?;
        Ok(Self {
            file: BufWriter::new(File::from_std(file)),
            room: room.clone(),
            taken: None,
            free: 0,
            most,
            count: 0,
            names: HashSet::new(),
            profiles: HashMap::new(),
            first_bad: None,
            bad: Vec::new(),
            bad_count: 0,
        })
    }

    /// Adds the next job, or notes why it is none.
    pub async fn add(&mut self, job: Result<NewJob, Error>) -> Result<(), Error> {
        if self.count >= self.most {
            let detail = format!("A batch has at most {} jobs. Make several of them.", self.most);
            return Err(Error::new(Code::TooLarge, detail).at("/jobs"));
        }
        self.count += 1;
        let job = job.and_then(|job| match &job.external_id {
            Some(name) if !self.names.insert(name.clone()) => {
                let detail = format!("The external_id '{name}' stands twice in the batch.");
                Err(Error::new(Code::ExternalIdTaken, detail).at("/external_id"))
            }
            _ => Ok(job),
        });
        match job {
            // nothing will be stored any more
            Ok(_) if self.first_bad.is_some() => Ok(()),
            Ok(job) => {
                let mut line = serde_json::to_vec(&Item::new(self.count, &job)).map_err(Error::internal)?;
                line.push(b'\n');
                self.take_room(line.len())?;
                *self.profiles.entry(job.profile).or_default() += 1;
                self.file.write_all(&line).await.map_err(full_or_broken)
            }
            // a part of ours that is away says nothing of the job
            Err(error) if error.code().status() >= 500 => Err(error),
            Err(error) => {
                self.bad_count += 1;
                if self.bad.len() < NAMED {
                    self.bad.push(self.count);
                }
                let pointer = error.pointer().unwrap_or_default().to_owned();
                self.first_bad.get_or_insert_with(|| at(error, self.count, &pointer));
                Ok(())
            }
        }
    }

    fn take_room(&mut self, bytes: usize) -> Result<(), Error> {
        while self.free < bytes {
            let piece = Arc::clone(&self.room.0).try_acquire_owned().map_err(|_| no_room())?;
            match &mut self.taken {
                Some(all) => all.merge(piece),
                None => self.taken = Some(piece),
            }
            self.free += PIECE;
        }
        self.free -= bytes;
        Ok(())
    }

    /// The jobs, if all are good.
    pub async fn finish(mut self) -> Result<Spooled, Error> {
        if let Some(first) = self.first_bad {
            return Err(if self.bad_count == 1 { first } else { refuse(&first, self.bad_count, &self.bad) });
        }
        if self.count == 0 {
            let detail = "A batch has at least one job. Send one job a line, or a list named 'jobs'.";
            return Err(Error::new(Code::InvalidValue, detail).at("/jobs"));
        }
        self.file.flush().await.map_err(full_or_broken)?;
        let mut file = self.file.into_inner();
        file.seek(SeekFrom::Start(0)).await.map_err(Error::internal)?;
        Ok(Spooled { count: self.count, profiles: self.profiles, lines: BufReader::new(file), _room: self.taken })
    }
}

fn refuse(first: &Error, count: u64, numbers: &[i32]) -> Error {
    let list: Vec<String> = numbers.iter().map(i32::to_string).collect();
    let more = if count > list.len() as u64 { ", …" } else { "" };
    let detail = format!(
        "{} In all {count} jobs are not as they must be: {}{more}. None was accepted.",
        first.detail(),
        list.join(", ")
    );
    let error = Error::new(first.code(), detail);
    match first.pointer() {
        Some(pointer) => error.at(pointer),
        None => error,
    }
}

fn full_or_broken(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::StorageFull { no_room() } else { Error::internal(error) }
}

fn no_room() -> Error {
    let detail = "The service has no room to take in a batch just now. Nothing was accepted; try again later.";
    Error::new(Code::StorageFull, detail)
}

/// Jobs that are all there and good.
pub struct Spooled {
    /// How many.
    pub count: i32,
    /// How many with which profile.
    pub profiles: HashMap<Profile, u64>,
    lines: BufReader<File>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Spooled {
    /// The jobs, some hundred at a time.
    pub fn chunks(self) -> impl Stream<Item = Result<Vec<Item>, Error>> + Send {
        stream::try_unfold(self, async |mut spooled| {
            let lines = &mut spooled.lines;
            let (mut items, mut line) = (Vec::new(), Vec::new());
            while items.len() < CHUNK {
                line.clear();
                if lines.read_until(b'\n', &mut line).await.map_err(Error::internal)? == 0 {
                    break;
                }
                items.push(serde_json::from_slice(&line).map_err(Error::internal)?);
            }
            Ok((!items.is_empty()).then_some((items, spooled)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn spools_share_their_room_and_give_it_back() {
        let room = Room(Arc::new(Semaphore::new(3)));
        let (mut one, mut other) = (Spool::new(10, &room).await.unwrap(), Spool::new(10, &room).await.unwrap());
        one.take_room(1).unwrap();
        one.take_room(PIECE).unwrap();
        other.take_room(PIECE).unwrap();
        assert_eq!(other.take_room(1).map_err(|e| e.code()), Err(Code::StorageFull));
        one.take_room(PIECE - 1).unwrap();
        drop(one);
        other.take_room(2 * PIECE).unwrap();
        drop(other);
        assert_eq!(room.0.available_permits(), 3);
    }
}
