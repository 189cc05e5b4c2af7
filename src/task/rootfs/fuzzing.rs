//! The part of the fuzz targets that parses the options of a mount.

use super::{Mount, options::Options, overlay};

/// Parses the options, and shortens those of an overlay.
pub(crate) fn options_of(mount: &Mount) {
    let Ok(options) = Options::parse(mount) else { return };
    assert!(options.data.len() <= mount.options.len());
    let (options_before, before) =
        (options.data.len(), options.data.iter().map(String::len).sum::<usize>());
    let mut data = options.data.clone();
    let layers = overlay::replace_lower(&mut data, |number, _| Ok(format!("/{number}").into()));
    assert!(layers.is_ok());
    let (_, fitted) = overlay::fit_into_page(options.data.clone());
    let (directory, data) = overlay::shorten(options.data);
    for shortened in [fitted, data] {
        let after: usize = shortened.iter().map(String::len).sum();
        assert!(after <= before && shortened.len() == options_before);
    }
    assert!(directory.is_none_or(|directory| directory.is_absolute()));
}
