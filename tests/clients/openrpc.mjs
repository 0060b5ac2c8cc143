// What rpc.discover gives is a document as OpenRPC's own schema has it, and what its methods refer to are schemas.
import assert from 'node:assert/strict';
import Ajv from 'ajv';
import jayson from 'jayson/promise/index.js';
import { openrpcDocument } from '@open-rpc/meta-schema';
import jsonSchema from '@json-schema-tools/meta-schema';

const { result: document } = await jayson.Client.tcp({ path: process.argv[2] }).request('rpc.discover', {});

// Both schemas name a dialect of their own, which is draft 7.
const draft7 = ({ $schema, ...schema }) => schema;
const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
ajv.addSchema(draft7(jsonSchema.default ?? jsonSchema), 'https://meta.json-schema.tools');
const valid = ajv.compile(draft7(openrpcDocument));
assert.ok(valid(document), JSON.stringify(valid.errors, null, 2));

const broken = structuredClone(document);
delete broken.methods[0].params;
assert.ok(!valid(broken), 'a document without params is refused');

// Each result and each list of params, with what it refers to.
const api = new Ajv({ strict: true, strictTypes: false, strictRequired: false });
api.addVocabulary(['components']);
api.addSchema({ $id: 'cmssh', components: document.components });
const resolved = (schema) => JSON.parse(JSON.stringify(schema).replaceAll('"#/components/', '"cmssh#/components/'));
for (const method of document.methods.filter(({ name }) => name !== 'rpc.discover')) {
    for (const schema of [method.result.schema, ...method.params.map((param) => param.schema)]) {
        api.compile(resolved(schema));
    }
}
