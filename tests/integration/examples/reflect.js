'use strict';
// What server reflection says to grpc-reflection-js, and the health service to grpc-health-check's
// definition of it. usage: reflect.js ADDRESS

const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const { protoPath } = require('grpc-health-check');
const { Client } = require('grpc-reflection-js');

function check(address, service) {
  const { Health } = grpc.loadPackageDefinition(protoLoader.loadSync(protoPath, { enums: String })).grpc.health.v1;
  const client = new Health(address, grpc.credentials.createInsecure());
  return new Promise((resolve, reject) => {
    client.Check({ service }, { deadline: Date.now() + 30_000 }, (error, answer) => {
      client.close();
      if (error) reject(error);
      else resolve(answer.status);
    });
  });
}

async function main(address) {
  const reflection = new Client(address, grpc.credentials.createInsecure());
  const services = await reflection.listServices();
  const ingest = await reflection.fileContainingSymbol('telemetry.v1.IngestService');
  const methods = Object.keys(ingest.lookupService('telemetry.v1.IngestService').methods);
  const fields = Object.keys(ingest.lookupType('telemetry.v1.Event').fields);
  const status = {};
  for (const service of ['', 'telemetry.v1.IngestService']) status[service] = await check(address, service);
  console.log(JSON.stringify({ services, methods, fields, status }));
}

main(process.argv[2]).then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
