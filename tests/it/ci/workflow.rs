//! The shell steps of the example files. What is not understood is a failure of the test, never a step left out.

use std::collections::BTreeMap;

use serde_json::Value;

pub struct Step {
    pub name: String,
    pub run: String,
    condition: Option<String>,
    env: BTreeMap<String, String>,
}

fn example(path: &str) -> Value {
    let path = format!("{}/examples/ci/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the example is in the tree");
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Of the file's only job, in order; steps that use an action are its host's.
pub fn github_steps(file: &str) -> Vec<Step> {
    let workflow = example(&format!(".github/workflows/{file}"));
    let jobs = workflow["jobs"].as_object().expect("jobs");
    assert_eq!(jobs.len(), 1);
    let steps = jobs.values().next().expect("one")["steps"].as_array().expect("steps").clone();
    let own = steps.iter().filter(|step| step["uses"].is_null());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let step = |step: &Value| Step {
        name: text(&step["name"]).expect("each step has a name"),
        run: text(&step["run"]).expect("a step runs or uses something"),
        condition: text(&step["if"]),
        env: serde_json::from_value(step["env"].clone()).unwrap_or_default(),
    };
    let steps: Vec<Step> = own.map(step).collect();
    assert!(!steps.is_empty());
    steps
}

impl Step {
    /// Whether the runner would run it: all is well so far, the job has secrets, the branch is the repository's own.
    pub fn wanted(&self, well: bool, token: bool, own: bool) -> bool {
        match self.condition.as_deref() {
            None => well,
            Some("env.RAILWAY_TOKEN != ''") => well && token,
            Some("env.RAILWAY_TOKEN == ''") => well && !token,
            Some("always()") => true,
            Some("always() && github.event.pull_request.head.repo.full_name == github.repository") => own,
            Some(other) => panic!("the test does not know the condition `{other}`"),
        }
    }

    /// Its own environment, but what the test sets for all steps.
    pub fn env(&self, number: &str) -> Vec<(String, String)> {
        let value = |(name, value): (&String, &String)| match value.as_str() {
            "${{ vars.O7S_URL }}" | "${{ vars.O7S_SHA256 }}" => None,
            "${{ github.token }}" => Some((name.clone(), "ghs".to_owned())),
            "${{ github.event.pull_request.number }}" => Some((name.clone(), number.to_owned())),
            other => panic!("the test does not know the expression `{other}`"),
        };
        self.env.iter().filter_map(value).collect()
    }
}

/// What GitLab's runner runs as one script: the default's lines, then the job's.
pub fn gitlab_script(job: &str) -> String {
    let pipeline = example(".gitlab-ci.yml");
    let lines = |value: &Value| -> Vec<String> {
        value.as_array().expect("a list").iter().map(|line| line.as_str().expect("text").to_owned()).collect()
    };
    [lines(&pipeline["default"]["before_script"]), lines(&pipeline[job]["script"])].concat().join("\n")
}
