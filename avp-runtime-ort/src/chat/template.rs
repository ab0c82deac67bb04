//! Chat templates as Hugging Face writes them: from messages to the text a model was trained on.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use minijinja::{Environment, ErrorKind, Value, syntax::SyntaxConfig, value::Serde};
use serde::Deserialize;

use super::{
    Chat,
    limits::{BoundedText, Failure, LIMITS, LONGEST_SOURCE, Late, Limits, run_within},
    python,
};
use crate::{
    ModelError, RunError,
    folder::{read_json, read_text},
};

/// A model's chat templates, compiled.
pub(crate) struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    limits: Limits,
    /// Renderings beyond their time limit.
    late: Late,
    special_tokens: SpecialTokens,
}

/// The tokens a template may write by name; those that a model does not have are undefined, as in Transformers.
type SpecialTokens = BTreeMap<String, Value>;

/// Exporters write a special token as its text or as an object that holds it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Object { content: String },
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    unk_token: Option<TokenText>,
    sep_token: Option<TokenText>,
    pad_token: Option<TokenText>,
    cls_token: Option<TokenText>,
    mask_token: Option<TokenText>,
    #[serde(default)]
    additional_special_tokens: Option<Vec<TokenText>>,
    #[serde(default)]
    chat_template: Option<TemplateField>,
}

/// One template, or several by name; `default` is the one for plain chat.
#[derive(Deserialize)]
#[serde(untagged)]
enum TemplateField {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

const DEFAULT: &str = "default";
const TOOL_USE: &str = "tool_use";

impl ChatTemplate {
    /// Loads `chat_template.jinja` and `additional_chat_templates/NAME.jinja`, else the templates inside
    /// `tokenizer_config.json`; `None` when the model has none.
    ///
    /// # Errors
    /// When a file cannot be read, or a template does not parse, with its line.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>, ModelError> {
        let config: TokenizerConfig = match read_json(&folder.join("tokenizer_config.json")) {
            Err(ModelError::MissingFile { .. }) => TokenizerConfig::default(),
            other => other?,
        };
        let special_tokens = config.special_tokens();
        let mut sources = template_files(folder)?;
        if sources.is_empty() {
            sources = config.chat_template.map(TemplateField::into_named).unwrap_or_default();
        }
        if sources.is_empty() {
            return Ok(None);
        }
        Self::compile(sources, special_tokens, LIMITS).map(Some)
    }

    fn compile(
        sources: BTreeMap<String, String>,
        special_tokens: SpecialTokens,
        limits: Limits,
    ) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        // What Transformers sets on its own Jinja environment.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| template_error(&error))?);
        environment.set_unknown_method_callback(python::call_method);
        environment.set_formatter(python::format);
        environment.add_filter("join", python::join);
        environment.add_filter("tojson", python::tojson);
        environment.add_function("strftime_now", python::strftime_now);
        environment.add_function("raise_exception", python::raise_exception);
        environment.add_function("namespace", python::namespace);
        // It writes out every variable; no other Jinja has it.
        environment.remove_global("debug");
        environment.set_fuel(Some(limits.fuel));
        for (name, source) in sources {
            let refuse = |line, message| ModelError::Template { line, message };
            if source.len() > LONGEST_SOURCE {
                let message = format!("{name} has {} bytes, more than {LONGEST_SOURCE}", source.len());
                return Err(refuse(None, message));
            }
            let source = replace_generation_tags(&source);
            let compiled = run_within(limits.time, &Late::default(), move || {
                let added = environment.add_template_owned(name, source);
                added.map(|()| environment).map_err(|error| template_error(&error))
            });
            environment = compiled.map_err(|failure| match failure {
                Failure::TimedOut => refuse(None, format!("did not compile within {:?}", limits.time)),
                Failure::Failed(message) => refuse(None, message),
            })??;
        }
        Ok(Self { environment: Arc::new(environment), limits, late: Late::default(), special_tokens })
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// When the template refuses the messages, with its message and line; the named template does not exist; it exceeds a
    /// limit; or another rendering still runs beyond its time limit, because Rust cannot stop a thread.
    pub(crate) fn render(&self, chat: &Chat) -> Result<String, RunError> {
        let some = |values: &[serde_json::Value]| {
            if values.is_empty() { Value::from(()) } else { Value::from(Serde(values)) }
        };
        let mut variables = self.special_tokens.clone();
        variables
            .extend(chat.variables.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value)))));
        variables.extend(
            [
                ("messages", Value::from(Serde(&chat.messages))),
                ("tools", some(&chat.tools)),
                ("documents", some(&chat.documents)),
                ("add_generation_prompt", chat.add_generation_prompt.into()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let name = self.template(chat)?.name().to_owned();
        let (environment, limits) = (Arc::clone(&self.environment), self.limits);
        run_within(limits.time, &self.late, move || {
            let mut text = BoundedText::new(limits.output);
            // Errors hold values of the template, so they are turned into ours on its own stack.
            match environment
                .get_template(&name)
                .and_then(|found| found.render_captured_to(Value::from(variables), &mut text).map(drop))
            {
                Ok(()) => Ok(text.into_string()),
                Err(error) => Err(run_error(&error)),
            }
        })
        .map_err(|failure| match failure {
            Failure::TimedOut => RunError::TemplateLimit { limit: "time", line: None },
            Failure::Failed(message) => RunError::Template { line: None, message },
        })?
    }

    /// As Transformers chooses among several.
    fn template(&self, chat: &Chat) -> Result<minijinja::Template<'_, '_>, RunError> {
        let named = |name: &str| self.environment.get_template(name).ok();
        let found = match &chat.template {
            Some(name) => named(name),
            None if !chat.tools.is_empty() => named(TOOL_USE).or_else(|| named(DEFAULT)),
            None => named(DEFAULT),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self.environment.templates().map(|(name, _)| name).collect();
            let wanted = chat.template.as_deref().unwrap_or(DEFAULT);
            let message = format!("the model has none named {wanted:?}, only {}", names.join(", "));
            RunError::Template { line: None, message }
        })
    }
}

/// `chat_template.jinja` as `default`, and those beside it by their names.
fn template_files(folder: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    let mut sources = BTreeMap::new();
    match read_text(&folder.join("chat_template.jinja")) {
        Err(ModelError::MissingFile { .. }) => {}
        other => {
            sources.insert(DEFAULT.to_owned(), other?);
        }
    }
    // A folder that cannot be listed is one that is not there: most models have none.
    let more = std::fs::read_dir(folder.join("additional_chat_templates"));
    for entry in more.into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "jinja")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            sources.insert(name.to_owned(), read_text(&path)?);
        }
    }
    Ok(sources)
}

impl TokenizerConfig {
    fn special_tokens(&self) -> SpecialTokens {
        let text = |token: &TokenText| Value::from(token.as_str());
        let one = [
            ("bos_token", &self.bos_token),
            ("eos_token", &self.eos_token),
            ("unk_token", &self.unk_token),
            ("sep_token", &self.sep_token),
            ("pad_token", &self.pad_token),
            ("cls_token", &self.cls_token),
            ("mask_token", &self.mask_token),
        ];
        let mut tokens: BTreeMap<String, Value> = one
            .into_iter()
            .filter_map(|(name, token)| Some((name.to_owned(), text(token.as_ref()?))))
            .collect();
        if let Some(more) = &self.additional_special_tokens {
            tokens.insert("additional_special_tokens".to_owned(), more.iter().map(text).collect());
        }
        tokens
    }
}

impl TokenText {
    fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Object { content: text } => text,
        }
    }
}

impl TemplateField {
    fn into_named(self) -> BTreeMap<String, String> {
        match self {
            Self::One(template) => [(DEFAULT.to_owned(), template)].into(),
            Self::Named(templates) => {
                templates.into_iter().map(|named| (named.name, named.template)).collect()
            }
        }
    }
}

/// Replaces `{% generation %}` by `{% with %}` and its end likewise; every line stays where it is.
///
/// Transformers' tag marks for training what an assistant said, and renders its body in a scope of its own, as `with` does.
/// minijinja has no custom tags. In text that is not a tag, such as a string literal, it is replaced too.
fn replace_generation_tags(source: &str) -> String {
    let mut replaced = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, inside) = rest.split_at(open + 2);
        replaced += before;
        let name = inside.strip_prefix(['-', '+']).unwrap_or(inside).trim_start();
        replaced += &inside[..inside.len() - name.len()];
        rest = [("generation", "with"), ("endgeneration", "endwith")]
            .into_iter()
            .find_map(|(tag, scope)| {
                let behind = name.strip_prefix(tag)?;
                let end = behind.trim_start();
                end.strip_prefix(['-', '+']).unwrap_or(end).starts_with("%}").then(|| {
                    replaced += scope;
                    behind
                })
            })
            .unwrap_or(name);
    }
    replaced + rest
}

fn template_error(error: &minijinja::Error) -> ModelError {
    ModelError::Template { line: error.line(), message: message(error) }
}

fn run_error(error: &minijinja::Error) -> RunError {
    match error.kind() {
        ErrorKind::OutOfFuel => RunError::TemplateLimit { limit: "fuel", line: error.line() },
        ErrorKind::WriteFailure => RunError::TemplateLimit { limit: "output", line: error.line() },
        _ => RunError::Template { line: error.line(), message: message(error) },
    }
}

fn message(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::Message;

    fn compile_within(limits: Limits, source: &str) -> Result<ChatTemplate, ModelError> {
        let sources = [(DEFAULT.to_owned(), source.to_owned())].into();
        ChatTemplate::compile(sources, SpecialTokens::default(), limits)
    }

    fn compile(source: &str) -> Result<ChatTemplate, ModelError> {
        compile_within(LIMITS, source)
    }

    /// With fuel that is spent in a moment.
    fn render_hostile(source: &str) -> Result<String, RunError> {
        let limits = Limits { fuel: LIMITS.fuel / 40, ..LIMITS };
        compile_within(limits, source).unwrap().render(&Vec::new().into())
    }

    fn render(source: &str, messages: Vec<Message>) -> Result<String, RunError> {
        compile(source).unwrap().render(&messages.into())
    }

    #[derive(Deserialize)]
    struct Records {
        template: String,
        bos_token: String,
        eos_token: String,
        cases: Vec<Record>,
    }

    #[derive(Deserialize)]
    struct Record {
        name: String,
        messages: Vec<Message>,
        with: With,
        rendered: Option<String>,
        /// What the template said against it.
        refused: Option<String>,
    }

    #[derive(Deserialize)]
    struct With {
        #[serde(default)]
        tools: Vec<serde_json::Value>,
        #[serde(default)]
        documents: Vec<serde_json::Value>,
        #[serde(default = "yes")]
        add_generation_prompt: bool,
        #[serde(flatten)]
        variables: serde_json::Map<String, serde_json::Value>,
    }

    fn yes() -> bool {
        true
    }

    #[test]
    fn conversations_are_rendered_as_transformers_renders_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test-vectors/chat");
        let mut rendered = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let records: Records = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let tokens = [("bos_token", records.bos_token), ("eos_token", records.eos_token)];
            let tokens = tokens.map(|(name, text)| (name.to_owned(), Value::from(text))).into();
            let sources = [(DEFAULT.to_owned(), records.template)].into();
            let template = ChatTemplate::compile(sources, tokens, LIMITS).unwrap();
            for Record { name, messages, with, rendered: expected, refused } in records.cases {
                let With { tools, documents, add_generation_prompt, variables } = with;
                let chat = Chat {
                    messages,
                    tools,
                    documents,
                    template: None,
                    add_generation_prompt,
                    continues: false,
                    special_tokens_as_text: false,
                    variables,
                };
                let name = format!("{}, {name}", path.display());
                match (template.render(&chat), expected, refused) {
                    (Ok(text), Some(expected), None) => assert_eq!(text, expected, "{name}"),
                    (Err(RunError::Template { line: Some(_), message }), None, Some(refused)) => {
                        assert_eq!(message, refused, "{name}");
                    }
                    // Python's own error, which has other words.
                    (Err(RunError::Template { line: Some(_), .. }), None, None) => {}
                    other => panic!("{name}: {other:?}"),
                }
                rendered += 1;
            }
        }
        assert!(rendered >= 30, "{rendered} cases");
    }

    #[test]
    fn a_template_that_refuses_speaks_in_its_own_words() {
        let refused =
            render("{% if true %}\n{{ raise_exception('roles must alternate') }}{% endif %}", vec![]);
        let expected = RunError::Template { line: Some(2), message: "roles must alternate".into() };
        assert_eq!(refused, Err(expected));
    }

    #[test]
    fn a_template_that_does_not_parse_names_its_line() {
        let refused = compile("fine\n{% for %}").err();
        assert!(matches!(refused, Some(ModelError::Template { line: Some(2), .. })), "{refused:?}");
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped_with_its_line() {
        for source in [
            "a\n{% for i in range(100000) %}{% for j in range(100000) %}{{ i * j }}{% endfor %}{% endfor %}",
            "a\n{{ 'x' * 1000000000 }}",
            "a\n{% set ns = namespace(s='x') %}{% for i in range(90) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        ] {
            let error = render(source, vec![]).unwrap_err();
            assert!(
                matches!(error, RunError::TemplateLimit { limit: "fuel", line: Some(2) }),
                "{source}: {error:?}"
            );
        }
    }

    /// Makes two lists that hold a list twice, `times` deep.
    fn doubled(times: usize) -> String {
        "{% set x, y = 1, 1 %}".to_owned() + &"{% set x = [x, x] %}{% set y = [y, y] %}".repeat(times)
    }

    #[test]
    fn constants_that_take_long_to_compute_are_given_up_while_compiling() {
        let limits = Limits { time: Duration::from_millis(20), ..LIMITS };
        let refused = compile_within(limits, "{{ [0] * 100000000 == [0] * 100000000 }}").err();
        let Some(ModelError::Template { line: None, message }) = refused else { panic!("{refused:?}") };
        assert_eq!(message, "did not compile within 20ms");
    }

    #[test]
    fn a_statement_that_wants_another_template_is_refused_with_its_line() {
        for statement in
            ["import 'default' as ns.x", "from 'default' import x", "include 'default'", "extends 'default'"]
        {
            let refused = compile(&format!("a\n{{%- {statement} %}}")).err();
            assert!(
                matches!(refused, Some(ModelError::Template { line: Some(2), .. })),
                "{statement}: {refused:?}"
            );
        }
    }

    #[test]
    fn what_no_other_jinja_has_is_not_there() {
        assert!(matches!(render("{{ debug() }}", vec![]), Err(RunError::Template { line: Some(1), .. })));
    }

    #[test]
    fn a_namespace_holds_macros_and_data() {
        let source = "{% macro m(a) %}<{{ a }}>{% endmacro %}{% set ns = namespace({'b': 1}, c=(2, 'x')) %}{% set ns.m = m %}\
                      {{ ns.m(ns.b) }}{{ ns.c }}{% set ns.c = ns.c %}{{ ns.c[1] ~ ns.d is defined }}";
        assert_eq!(render(source, vec![]).unwrap(), "<1>(2, 'x')xFalse");
    }

    #[test]
    fn a_conversation_is_collected_in_a_namespace() {
        let source = "{% set ns = namespace(kept=[], text='', last={}) %}{% for m in messages %}{% set ns.kept = ns.kept + [m] %}\
                      {% set ns.last = m %}{% set ns.text = ns.text ~ '<|' ~ m.role ~ '|>' ~ m.content[:80] %}{% endfor %}\
                      {{ ns.kept|length }} {{ ns.text|length }}";
        assert_eq!(render(source, vec![Message::new("user", "a".repeat(4000)); 500]).unwrap(), "500 44000");
    }

    #[test]
    fn a_list_inside_itself_many_times_is_stopped_before_it_is_written() {
        for used in [
            "{{ x }}",
            "{{ x|tojson|length }}",
            "{{ {'a': x}|tojson(sort_keys=true)|length }}",
            "{{ x|join|length }}",
            "{{ ''.join(x)|length }}",
            "{{ raise_exception(x) }}",
        ] {
            let error = render_hostile(&(doubled(40) + used)).unwrap_err();
            assert!(
                matches!(error, RunError::TemplateLimit { limit: "fuel", line: Some(1) }),
                "{used}: {error:?}"
            );
        }
    }

    #[test]
    fn a_namespace_that_holds_itself_is_refused_where_it_is_written() {
        for written in ["{{ ns }}", "{{ [ns.x] }}", "{{ ns|tojson }}", "{{ [ns]|join }}"] {
            let source = format!("{{% set ns = namespace(x=1) %}}{{% set ns.x = ns %}}{written}");
            let error = render(&source, vec![]).unwrap_err();
            assert!(matches!(error, RunError::Template { line: Some(1), .. }), "{written}: {error:?}");
        }
    }

    #[test]
    fn text_larger_than_memory_is_refused_before_it_is_made() {
        for source in [
            "{% set s = 'x' * 2000000 %}{{ ([s] * 100000)|tojson|length }}",
            "{% set s = 'x' * 2000000 %}{{ ([s] * 100000)|join|length }}",
            "{{ ([1] * 100000000)|tojson|length }}",
            "{{ ('x' * 1000000).replace('x', 'y' * 100000)|length }}",
            "{{ ('x' * 1000000).replace('x', 'y' * 100000, 999999)|length }}",
            "{{ ('x' * 1000000)|replace('x', 'y' * 100000)|length }}",
            "{{ ('x' * 1000000).join(range(99999))|length }}",
            "{{ '{:>100000000000}'.format('x')|length }}",
            "{{ ('{0}' * 100000).format('x' * 1000000)|length }}",
            "{{ ('x' * 900000).split('x')|length }}",
        ] {
            let error = render_hostile(source).unwrap_err();
            assert!(
                matches!(error, RunError::TemplateLimit { limit: "fuel", line: Some(1) }),
                "{source}: {error:?}"
            );
        }
        for layout in ["separators=[s, s]", "indent=s"] {
            let source =
                format!("{{% set s = 'x' * 2000000 %}}{{{{ range(1000)|list|tojson({layout})|length }}}}");
            let error = render_hostile(&source).unwrap_err();
            assert!(matches!(error, RunError::Template { line: Some(1), .. }), "{layout}: {error:?}");
        }
    }

    #[test]
    fn output_beyond_the_limit_is_refused() {
        let limits = Limits { output: 999, ..LIMITS };
        let template = compile_within(limits, "{% for a in range(1000) %}x{% endfor %}").unwrap();
        let error = template.render(&Vec::new().into()).unwrap_err();
        assert!(matches!(error, RunError::TemplateLimit { limit: "output", .. }), "{error:?}");
    }

    #[test]
    fn a_rendering_that_fuel_does_not_stop_holds_its_caller_no_longer_than_the_limit() {
        let source = doubled(30) + "{% if messages %}{{ x == y }}{% endif %}";
        let template = compile_within(Limits { time: Duration::from_millis(50), ..LIMITS }, &source).unwrap();
        let out_of_time = Err(RunError::TemplateLimit { limit: "time", line: None });
        assert_eq!(template.render(&vec![Message::new("user", "x")].into()), out_of_time);
        // This one takes no time, but is not started while the first still runs.
        assert_eq!(template.render(&Vec::new().into()), out_of_time);
    }

    #[test]
    fn generation_tags_are_a_scope_whatever_their_whitespace() {
        for (source, expected) in [
            (
                "a{% generation %}b{%- endgeneration -%}c{%-generation%}{%+ endgeneration %}",
                "a{% with %}b{%- endwith -%}c{%-with%}{%+ endwith %}",
            ),
            ("{% set generation = 1 %}{{ generation }}é{%", "{% set generation = 1 %}{{ generation }}é{%"),
            ("generation {{% generation x %}", "generation {{% generation x %}"),
            ("{%\ngeneration\n%}", "{%\nwith\n%}"),
        ] {
            assert_eq!(replace_generation_tags(source), expected);
        }
    }

    #[test]
    fn a_template_that_calls_itself_for_ever_is_stopped_with_its_line() {
        let error =
            render("a\n{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", vec![]).unwrap_err();
        assert!(matches!(error, RunError::Template { line: Some(2), .. }), "{error:?}");
    }

    #[test]
    fn a_template_nested_without_end_is_refused_not_a_stack_that_overflows() {
        let repeat = |text: &str| text.repeat(LONGEST_SOURCE / text.len() - 20);
        for source in [
            format!("{{{{ {}1 }}}}", repeat("(")),
            format!("{{{{ {}1", repeat("not ")),
            format!("{{{{ {}", repeat("-")),
            format!("{{{{ a{}", repeat("+a")),
            format!("{{{{ a{}", repeat("~a")),
            format!("{{{{ a{}", repeat(" in a")),
            format!("{{{{ a{}", repeat("()")),
            format!("{{% if a %}}{}", repeat("{%elif a%}")),
            repeat("{% if a %}"),
            repeat("{% generation %}"),
        ] {
            assert!(source.len() <= LONGEST_SOURCE);
            let refused = compile(&source).err();
            assert!(matches!(refused, Some(ModelError::Template { .. })), "{}", &source[..20]);
        }
    }

    #[test]
    fn values_nested_without_end_are_stopped_not_a_stack_that_overflows() {
        for step in ["[ns.x]", "{'a': ns.x}"] {
            let source = format!(
                "{{% set ns = namespace(x=1) %}}{{% for i in range(9999) %}}{{% for j in range(9999) %}}\
                 {{% set ns.x = {step} %}}{{% endfor %}}{{% endfor %}}"
            );
            let error = render_hostile(&source).unwrap_err();
            assert!(
                matches!(error, RunError::TemplateLimit { limit: "fuel", line: Some(1) }),
                "{step}: {error:?}"
            );
        }
    }

    #[test]
    fn a_template_longer_than_any_is_refused() {
        let refused = compile(&" ".repeat(LONGEST_SOURCE + 1)).err();
        assert!(matches!(refused, Some(ModelError::Template { .. })), "{refused:?}");
    }

    #[test]
    fn a_thousand_long_messages_are_far_from_the_limit() {
        let source = "{% for m in messages %}{% if m.role == 'user' and m.content.startswith('a') %}{{ m.content | trim | tojson }}{% endif %}{% endfor %}";
        let messages = vec![Message::new("user", "a".repeat(4000)); 1000];
        assert_eq!(render(source, messages).unwrap().len(), 4_002_000);
    }

    #[test]
    fn tokens_a_model_does_not_have_are_undefined() {
        let source = "{{ bos_token is defined }} {{ tools is none }} {{ documents is none }}";
        assert_eq!(render(source, vec![]).unwrap(), "False True True");
    }

    #[test]
    fn tools_choose_their_own_template_and_names_any() {
        let config = json!({
            "eos_token": {"content": "</s>"},
            "chat_template": [
                {"name": "tool_use", "template": "t"}, {"name": "default", "template": "d{{ eos_token }}"},
                {"name": "rag", "template": "{{ documents[0].text }}"},
            ],
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let template = ChatTemplate::load(folder.path()).unwrap().unwrap();
        let chat = || Chat::from(Vec::new());
        assert_eq!(template.render(&chat()).unwrap(), "d</s>");
        assert_eq!(template.render(&Chat { tools: vec![json!({})], ..chat() }).unwrap(), "t");
        let named = |name: &str| Chat { template: Some(name.into()), ..chat() };
        let rag = Chat { documents: vec![json!({"text": "r"})], ..named("rag") };
        assert_eq!(template.render(&rag).unwrap(), "r");
        let error = template.render(&named("none")).unwrap_err().to_string();
        assert!(error.contains("tool_use") && error.contains("none"), "{error}");
    }

    #[test]
    fn template_files_come_before_those_in_the_config() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert!(ChatTemplate::load(folder.path()).unwrap().is_none());
        write("tokenizer_config.json", r#"{"chat_template": "config"}"#);
        let render = |tools: Vec<serde_json::Value>| {
            let template = ChatTemplate::load(folder.path()).unwrap().unwrap();
            template.render(&Chat { tools, ..Chat::from(Vec::new()) }).unwrap()
        };
        assert_eq!(render(vec![]), "config");
        write("chat_template.jinja", "file");
        assert_eq!(render(vec![json!({})]), "file");
        std::fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
        write("additional_chat_templates/tool_use.jinja", "tools");
        assert_eq!(render(vec![json!({})]), "tools");
        assert_eq!(render(vec![]), "file");
    }
}
