//! What must hold of the codec as a whole. `sample` makes one frame of every type out of a few
//! numbers, texts and bytes; the other files ask their questions of all of them.

mod bad_fields;
mod bad_frames;
mod mutations;
mod round_trips;
mod sample;
mod templates;
