//! The rules, and how the source is checked against them.

use std::collections::BTreeSet;

use crate::paths::Findings;

/// Which modules a module may name besides itself.
pub(crate) enum May {
    /// Every module in the rows below its own.
    NameAllBelow,
    /// These modules, separated by spaces. They must be in rows below its own.
    Name(&'static str),
}

/// The tables of `main.rs`.
pub(crate) struct Rules {
    /// One row for each module of the crate's root, from top to bottom. The row `bin` stands for
    /// all programs.
    pub(crate) layers: &'static [(&'static str, May)],
    /// Modules that may not name certain others. Each path stands for everything inside it.
    pub(crate) inside: &'static [(&'static str, &'static str)],
    /// The only module that may have unsafe code.
    pub(crate) unsafe_in: &'static str,
}

impl Rules {
    /// The violations, one line each: file and line, the module, and the module that it names.
    pub(crate) fn broken_in(&self, found: &Findings) -> Vec<String> {
        let mut broken = BTreeSet::new();
        for defect in &found.defects {
            broken.insert((&defect.file, defect.line, defect.what.clone()));
        }
        for reference in &found.references {
            let (module, named) = (reference.module.join("::"), reference.named.join("::"));
            if !self.allows(&module, &named) {
                broken.insert((&reference.file, reference.line, format!("{module} names {named}")));
            }
        }
        for found in &found.unsafe_code {
            let module = found.module.join("::");
            if !is_within(&module, self.unsafe_in) {
                broken.insert((&found.file, found.line, format!("{module} has unsafe code")));
            }
        }
        broken.into_iter().map(|(file, line, what)| format!("{file}:{line}: {what}")).collect()
    }

    /// Faults of the tables, one line each: rows without a module, modules without a row, and rows
    /// that name a module which is not below them.
    pub(crate) fn faults_of_tables(&self, found: &Findings) -> Vec<String> {
        let modules: BTreeSet<String> = found.modules.iter().map(|path| path.join("::")).collect();
        let rows: Vec<&str> = self.layers.iter().map(|(row, _)| *row).collect();
        let mut faults = Vec::new();
        for path in &found.modules {
            if let [module] = &path[..]
                && !rows.contains(&module.as_str())
            {
                faults.push(format!("{module} has no row"));
            }
        }
        for (at, (row, may)) in self.layers.iter().enumerate() {
            if !modules.iter().any(|module| is_within(module, row)) {
                faults.push(format!("the row {row} has no module"));
            }
            let named = match may {
                May::NameAllBelow => "",
                May::Name(named) => named,
            };
            for named in named.split_whitespace().filter(|it| !rows[at + 1..].contains(it)) {
                faults.push(format!("the row {row} names {named}, which is not below it"));
            }
        }
        for (module, forbidden) in self.inside {
            let paths = forbidden.split_whitespace().chain([*module]);
            for path in paths.filter(|path| !modules.contains(*path)) {
                faults.push(format!("{path} is in a rule and is no module"));
            }
        }
        faults
    }

    fn allows(&self, module: &str, named: &str) -> bool {
        let forbids = |(from, to): &(&str, &str)| {
            is_within(module, from) && to.split_whitespace().any(|to| is_within(named, to))
        };
        !self.inside.iter().any(forbids) && self.allows_layer(top(module), top(named))
    }

    fn allows_layer(&self, module: &str, named: &str) -> bool {
        // The crate's root may re-export anything. Naming the root is allowed, because it has only
        // re-exports.
        if module.is_empty() || named.is_empty() || module == named {
            return true;
        }
        let Some(at) = self.layers.iter().position(|(row, _)| *row == module) else {
            return false;
        };
        match self.layers[at].1 {
            May::NameAllBelow => self.layers[at + 1..].iter().any(|(row, _)| *row == named),
            May::Name(list) => list.split_whitespace().any(|it| it == named),
        }
    }
}

fn top(path: &str) -> &str {
    path.split("::").next().unwrap_or_default()
}

fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
