"""The methods of google.pubsub.v1 SchemaService and google.iam.v1 IAMPolicy."""

from embedded_pubsub.errors import InvalidArgumentError
from embedded_pubsub.limits import check_name, check_project
from embedded_pubsub.paging import in_project, paged
from embedded_pubsub.protos import (
    FULL,
    Empty,
    ListSchemaRevisionsResponse,
    ListSchemasResponse,
    Proto,
    TestIamPermissionsResponse,
    ValidateMessageResponse,
    ValidateSchemaResponse,
)
from embedded_pubsub.runtime import Runtime
from embedded_pubsub.schemas import definition_of, viewed


class SchemaService:
    """google.pubsub.v1.SchemaService."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._state = runtime.state
        self._schemas = runtime.state.schemas

    async def create_schema(self, request: Proto) -> Proto:
        """Create a schema."""
        return await self._runtime.call(lambda now: self._schemas.create(request, now))

    async def get_schema(self, request: Proto) -> Proto:
        """Give a schema, whole unless the request asks for less."""
        return viewed(self._schemas.get(request.name), request.view or FULL)

    async def list_schemas(self, request: Proto) -> Proto:
        """List the schemas of a project by name, without definitions unless asked for."""
        page, token = paged(in_project(self._schemas.by_name, request.parent), request)
        found = [viewed(self._schemas.get(name), request.view) for name in page]
        return ListSchemasResponse(schemas=found, next_page_token=token)

    async def list_schema_revisions(self, request: Proto) -> Proto:
        """List the revisions of a schema, the latest first."""
        revisions = {
            f"{-revision.number + 2**62:020}": revision.config
            for revision in self._schemas.revisions(request.name)
        }
        page, token = paged(sorted(revisions), request)
        found = [viewed(revisions[each], request.view) for each in page]
        return ListSchemaRevisionsResponse(schemas=found, next_page_token=token)

    async def commit_schema(self, request: Proto) -> Proto:
        """Add a revision."""
        return await self._runtime.call(lambda now: self._schemas.commit(request, now))

    async def rollback_schema(self, request: Proto) -> Proto:
        """Add a revision that is a copy of an earlier one."""
        return await self._runtime.call(lambda now: self._schemas.roll_back(request, now))

    async def delete_schema_revision(self, request: Proto) -> Proto:
        """Delete a revision."""
        return await self._runtime.call(lambda _: self._schemas.delete_revision(request))

    async def delete_schema(self, request: Proto) -> Proto:
        """Delete a schema with all its revisions."""
        await self._runtime.call(lambda _: self._state.delete_schema(request.name))
        return Empty()

    async def validate_schema(self, request: Proto) -> Proto:
        """Refuse what is not a schema."""
        check_project(request.parent)
        if request.schema.name:
            check_name("schema.name", request.schema.name, "schemas")
        definition_of(request.schema)
        return ValidateSchemaResponse()

    async def validate_message(self, request: Proto) -> Proto:
        """Refuse a message that is not of a schema."""
        check_project(request.parent)
        self._schemas.validate(request)
        return ValidateMessageResponse()


class IamPolicy:
    """google.iam.v1.IAMPolicy, on a server that knows no identities: everybody may do all."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._state = runtime.state

    async def set_iam_policy(self, request: Proto) -> Proto:
        """Replace the policy of a resource."""
        self._state.check_exists(request.resource)
        policies = self._state.policies
        return await self._runtime.call(lambda _: policies.set(request.resource, request.policy))

    async def get_iam_policy(self, request: Proto) -> Proto:
        """Give the policy of a resource."""
        self._state.check_exists(request.resource)
        return self._state.policies.get(request.resource)

    async def test_iam_permissions(self, request: Proto) -> Proto:
        """Give those of the named permissions that the caller has, which are all."""
        self._state.check_exists(request.resource)
        for permission in request.permissions:
            if "*" in permission:
                raise InvalidArgumentError(
                    f"permissions: {permission!r}: wildcards are not allowed."
                )
        return TestIamPermissionsResponse(permissions=request.permissions)
