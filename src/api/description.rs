//! The API in OpenAPI.
//!
//! Responsible for: writing the list of routes, with the forms of bodies and answers, as a
//! description that tools read.
//! Not responsible for: the routes (`routes`).

use std::collections::BTreeMap;

use utoipa::ToSchema;
use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Schema as Form, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, HttpMethod, Info, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required, Response,
    ResponseBuilder,
};

use crate::api::refusal::ErrorAnswer;
use crate::api::routes::{Answer, Route, Verb};

/// Name of the security scheme.
const BEARER: &str = "bearer";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";

/// Forms that have been met, by name.
pub(super) type Forms = BTreeMap<String, RefOr<Form>>;

/// Adds a form and all that it refers to, and refers to it.
pub(super) type Schema = fn(&mut Forms) -> Ref;

/// The form of a type.
pub(super) fn schema<T: ToSchema>(forms: &mut Forms) -> Ref {
    let name = T::name().into_owned();
    let mut within = Vec::new();
    T::schemas(&mut within);
    forms.extend(within);
    forms.insert(name.clone(), T::schema());
    Ref::from_schema_name(name)
}

/// The description of these routes.
pub(super) fn of(routes: &[Route]) -> OpenApi {
    let (mut forms, mut paths) = (Forms::new(), Paths::new());
    for route in routes {
        let method = match route.verb {
            Verb::Ask => HttpMethod::Get,
            Verb::Change => HttpMethod::Post,
        };
        paths.add_path_operation(route.path, vec![method], operation(route, &mut forms));
    }
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components =
        ComponentsBuilder::new().schemas_from_iter(forms).security_scheme(BEARER, bearer).build();
    OpenApiBuilder::new()
        .info(Info::new("Tidemill", env!("CARGO_PKG_VERSION")))
        .paths(paths)
        .components(Some(components))
        .build()
}

fn operation(route: &Route, forms: &mut Forms) -> Operation {
    let mut operation = OperationBuilder::new()
        .summary(Some(route.summary))
        .response("200", answer(route.answer, forms))
        .response("default", error(forms));
    for name in filled_in(route.path) {
        operation = operation.parameter(parameter(name, ParameterIn::Path, None));
    }
    for &(name, meaning) in route.query {
        operation = operation.parameter(parameter(name, ParameterIn::Query, Some(meaning)));
    }
    if let Some(schema) = route.body {
        operation = operation.request_body(Some(body(schema, forms)));
    }
    if !route.open {
        let no_scopes: [&str; 0] = [];
        operation = operation.security(SecurityRequirement::new(BEARER, no_scopes));
    }
    operation.build()
}

/// Names in braces.
fn filled_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

fn parameter(name: &str, place: ParameterIn, meaning: Option<&str>) -> Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(meaning)
        .schema(Some(text()))
        .build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn body(schema: Schema, forms: &mut Forms) -> RequestBody {
    RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content(JSON, Content::new(Some(schema(forms))))
        .build()
}

fn answer(answer: Answer, forms: &mut Forms) -> Response {
    let response = ResponseBuilder::new().description("The answer.");
    let response = match answer {
        Answer::Json(schema) => response.content(JSON, Content::new(Some(schema(forms)))),
        Answer::Many(schema) => {
            response.content(JSON, Content::new(Some(schema(forms).to_array_builder())))
        }
        Answer::JsonOrText(schema) => response
            .content(JSON, Content::new(Some(schema(forms))))
            .content(TEXT, Content::new(Some(text()))),
        Answer::Text => response.content(TEXT, Content::new(Some(text()))),
        Answer::Document => response.content(JSON, Content::new(Some(ObjectBuilder::new()))),
    };
    response.build()
}

fn error(forms: &mut Forms) -> Response {
    let content = Content::new(Some(schema::<ErrorAnswer>(forms)));
    ResponseBuilder::new().description("Why there is none.").content(JSON, content).build()
}
