//! The live database that a verb is about: given by its address, or as the source of a pipeline.

use super::super::plugin_verb::DatabaseArgs;
use super::subject::ModuleAt;
use crate::batch::Relation;
use crate::config::{self, Pipeline, Secret, TablePattern};
use crate::plugin_tools::live::{Live, pattern};
use crate::problem::Problem;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where it is to be found.
pub(crate) enum Database {
    Url(Secret),
    Pipeline(PathBuf),
}

impl Database {
    /// `None` where none is named.
    pub(crate) fn of(args: &DatabaseArgs) -> Option<Self> {
        let url = args.url.as_ref().map(|url| Self::Url(Secret::new(url.clone())));
        url.or_else(|| args.pipeline.clone().map(Self::Pipeline))
    }

    /// # Errors
    ///
    /// A pipeline whose file isn't good.
    pub(crate) fn open(self) -> Result<Opened, Vec<Problem>> {
        Ok(match self {
            Self::Url(url) => Opened { url, pipeline: None },
            Self::Pipeline(file) => {
                let pipeline = config::load(&file)?;
                Opened {
                    url: pipeline.source.url.clone(),
                    pipeline: Some(Box::new(pipeline)),
                }
            }
        })
    }
}

/// Its address, and the pipeline that it was taken from.
pub(crate) struct Opened {
    url: Secret,
    pipeline: Option<Box<Pipeline>>,
}

impl Opened {
    pub(crate) async fn connect(&self) -> Result<Live, Box<Problem>> {
        Live::connect(self.url.reveal()).await
    }

    /// The publication that the pipeline has adopted.
    pub(crate) fn publication(&self) -> Option<&str> {
        self.pipeline.as_ref()?.source.publication.as_deref()
    }

    /// The configuration of the plugin that this module is in the pipeline.
    pub(crate) fn config_of(&self, module: &ModuleAt) -> Option<Value> {
        let plugins = &self.pipeline.as_ref()?.plugins;
        let same = |path: &Path| path.canonicalize().ok() == module.path.canonicalize().ok();
        let by_path = plugins.iter().find(|plugin| same(&plugin.module));
        let named = || {
            plugins
                .iter()
                .find(|plugin| plugin.module.file_name() == module.path.file_name())
        };
        by_path.or_else(named).map(|plugin| plugin.config.clone())
    }

    /// The tables that are named; else those of the pipeline, else all.
    pub(crate) async fn relations(&self, named: &[String]) -> Result<Vec<Arc<Relation>>, Box<Problem>> {
        let live = self.connect().await?;
        let named: Vec<TablePattern> = named.iter().map(|name| pattern(name)).collect();
        let tables = match &self.pipeline {
            Some(pipeline) if named.is_empty() => {
                let source = &pipeline.source;
                live.tables(&source.tables, source.publication.as_deref()).await?
            }
            _ if named.is_empty() => live.tables(&[pattern("*.*")], None).await?,
            _ => live.tables(&named, None).await?,
        };
        Ok(tables.into_iter().map(|table| table.relation).collect())
    }
}
