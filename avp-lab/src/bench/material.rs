//! Texts and questions in plain English for models that follow instructions, written for this crate.

use rand::{
    SeedableRng,
    rngs::ChaCha8Rng,
    seq::{IndexedRandom, SliceRandom},
};

use super::{
    dataset::{Dataset, Task},
    score::Metric,
};

/// Texts of some eighty words, on subjects far from each other.
pub(super) const TEXTS: [&str; 8] = [
    "The harbour wakes before the town does. Fishing boats come in with their lamps still lit, and the men on the quay call out \
     numbers that nobody writes down. By the time the sun stands over the breakwater the crates are stacked, the ice has been \
     shovelled, and two cats sit where they sat yesterday. Later the tourists arrive and take pictures of nets that are dry by \
     then and ropes that have not been moved for years.",
    "A bicycle stays upright because its rider steers into every fall. When it leans to the left, the front wheel is turned a \
     little to the left, and the wheels roll back under the weight. Children learn this without being told, and forget how \
     they learned it. Engineers have built bicycles that cannot be ridden by anyone who has ridden another, simply by making \
     the handlebars turn the wheel the other way.",
    "Bread needs four things: flour, water, salt and time. Yeast is in the air of every kitchen, and a paste of flour and water \
     left on a shelf will begin to rise by itself after some days. The baker feeds it, keeps half and bakes the rest. A loaf that \
     has rested overnight in a cold place tastes of more than one that was hurried, because the bacteria in the dough have had \
     time to work as well.",
    "In the third year of the drought the council closed the public baths. There was little protest at first. People carried \
     their washing to the river, where the water still reached to the knees, and met there on Saturdays. When the rain came back \
     the baths were opened again, with new tiles and a brass plate, but many families went on meeting at the river, and the \
     council never found out why its income had fallen.",
    "To sort a deck of cards, take one card after the other and put each into its place among those that are sorted already. \
     This is slow for a large deck, because every card may have to be compared with all before it. It is faster to split the deck \
     in two halves, to sort each half in the same way, and to merge them: look at the two top cards and always take the smaller \
     one.",
    "The moon has no weather. A footprint in its dust will be there in a million years unless something falls on it. The days \
     are two weeks long and hot enough to boil water, if there were any to boil, and the nights are as long and colder than any \
     place on earth. Ice has been found all the same, at the bottom of craters near the poles, into which the sun has never \
     shone.",
    "Dear Mrs Keller, thank you for your letter of the fourth. We are sorry that the lamp arrived with a broken shade. A new one \
     was sent to you today and should reach you by Friday. You need not return the old one. If you would rather have your money \
     back, please tell us by telephone or write to the address above, and give the number that is printed at the top of the \
     invoice. With kind regards.",
    "Wolves were shot on the island until none were left, and for forty years the deer had it to themselves. They ate the young \
     trees first, then the bark of the old ones. Streams that had run between willows became wide and shallow, and the trout \
     went. When a winter of hard ice let three wolves cross from the mainland, the herds began to move again, and within ten \
     summers there were willows at the water.",
];

const NAMES: [&str; 12] =
    ["Anna", "Karl", "Mei", "Omar", "Ruth", "Ivan", "Lucia", "Henry", "Nadia", "Peter", "Sofia", "Tom"];
const TOWNS: [&str; 12] = [
    "Lisbon", "Vienna", "Oslo", "Toronto", "Cairo", "Boston", "Madrid", "Dublin", "Warsaw", "Sydney",
    "Athens", "Prague",
];
const JOBS: [&str; 12] = [
    "baker", "teacher", "nurse", "painter", "pilot", "lawyer", "farmer", "singer", "dentist", "plumber",
    "tailor", "chemist",
];
const PETS: [&str; 8] = ["cat", "dog", "parrot", "rabbit", "horse", "turtle", "hamster", "goat"];

/// `count` questions on notes about three people each.
pub(super) fn questions(count: usize, seed: u64) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let tasks = (1..=count).map(|number| {
        let mut three =
            |words: &[&'static str]| -> [&'static str; 3] { words.sample_array(&mut rng).unwrap_or([""; 3]) };
        let (names, towns, jobs, pets) = (three(&NAMES), three(&TOWNS), three(&JOBS), three(&PETS));
        let mut sentences: Vec<String> = (0..3)
            .map(|at| {
                let (name, town, job, pet) = (names[at], towns[at], jobs[at], pets[at]);
                format!("{name} lives in {town}, works as a {job} and has a {pet}.")
            })
            .collect();
        sentences.shuffle(&mut rng);
        let (question, answer) = match number % 3 {
            0 => (format!("Where does {} live?", names[0]), towns[0]),
            1 => (format!("What is {}'s job?", names[0]), jobs[0]),
            _ => (format!("What pet does {} have?", names[0]), pets[0]),
        };
        Task {
            number,
            question,
            paragraphs: vec![sentences.join(" ")],
            answers: vec![answer.to_owned()],
            metric: Metric::Words,
        }
    });
    Dataset { name: "built-in notes about three people".to_owned(), tasks: tasks.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_stands_once_in_its_notes() {
        let data = questions(60, 3);
        assert_eq!(data.tasks.len(), 60);
        for task in data.tasks {
            assert_eq!(task.paragraphs[0].matches(&task.answers[0]).count(), 1, "{task:?}");
        }
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        assert_eq!(questions(5, 1).tasks, questions(5, 1).tasks);
        assert_ne!(questions(5, 1).tasks, questions(5, 2).tasks);
    }
}
