// Shows the document of this API on the page /docs. `validatorUrl` is null because the default sends the address of the
// document to a host of Swagger's.
SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  docExpansion: 'list',
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  validatorUrl: null,
})
