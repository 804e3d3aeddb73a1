//! A truncate that a plugin sends where it has sent the table's rows.

use super::{Applied, Apply, breach};
use crate::batch::{Row, Truncate};
use crate::plugin::plan::Plan;
use rowmill_abi::{FAN_OUT_MAX, action, op};

/// One of the places that a truncate goes to.
pub(super) struct Place<'r> {
    output: usize,
    /// `None` for the output itself.
    route: Option<&'r str>,
}

impl<'r> Apply<'_, 'r> {
    /// Reads where it goes: one place, or a list of them.
    #[cold]
    pub(super) fn places(&mut self, kind: u8, index: u32) -> Applied<Vec<Place<'r>>> {
        if kind == action::ROUTE {
            let route = Some(self.cursor.str()?);
            if !self.cursor.nil() {
                return breach(index, "it patches a truncate");
            }
            return Ok(vec![Place { output: 0, route }]);
        }
        let count = self.cursor.array()?;
        if count > FAN_OUT_MAX {
            return breach(
                index,
                format!("it sends a truncate to {count} places; {FAN_OUT_MAX} are allowed"),
            );
        }
        let mut places = Vec::new();
        for _ in 0..count {
            if self.cursor.array()? != 4 {
                return Ok(self.cursor.bad("a truncate of a fan-out is [3, output, nil, route]")?);
            }
            let kind = self.cursor.index(usize::from(u8::MAX))?;
            let output = self.cursor.index(usize::from(u16::MAX))?;
            if kind != usize::from(op::TRUNCATE) || !self.cursor.nil() {
                return breach(index, "a truncate fans out into truncates alone, which have no values");
            }
            let route = match self.cursor.nil() {
                true => None,
                false => Some(self.cursor.str()?),
            };
            places.push(Place { output, route });
        }
        Ok(places)
    }

    /// It empties what the plugin has made of each of its tables, at these places; tables that the plugin passes by as they
    /// are. Without a place that is left, it ends.
    #[cold]
    pub(super) fn send_truncate(&mut self, row: &Row, plans: &[Plan], places: &[Place<'_>], index: u32) -> Applied<()> {
        let Some(before) = self.batch.truncates.get(row.extra as usize).cloned() else {
            self.out.push(*row);
            return Ok(());
        };
        let mut relations = Vec::new();
        for at in &before.relations {
            let plan = self.entries.get(*at as usize).map(|entry| entry.plan as usize);
            match plan.and_then(|plan| plans.get(plan)) {
                None | Some(Plan::PassBy) => relations.push(*at),
                Some(Plan::Drop) => {}
                Some(Plan::Use(plan)) => {
                    for place in places {
                        let Some(output) = plan.outputs.get(place.output) else {
                            return breach(index, "it sends a truncate to an output that a table doesn't have");
                        };
                        let relation = match place.route {
                            None => self.batch.relation_index(&output.relation),
                            Some(name) => {
                                let route = self.route(output, name, index)?;
                                self.routes.relation(route, self.batch)
                            }
                        };
                        relations.push(relation);
                    }
                }
            }
        }
        if relations.is_empty() {
            return Ok(());
        }
        let extra = self.batch.truncates.len() as u32;
        self.batch.truncates.push(Truncate { relations, ..before });
        self.out.push(Row { extra, ..*row });
        Ok(())
    }
}
