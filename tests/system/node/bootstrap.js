// Runs npm coap-node as a client that bootstraps over IPv6: node bootstrap.js HOST PORT ENDPOINT. Prints one line of JSON: the code of
// the server's answer to its request; then, when the exchange is over, another with its objects Security (0) and Server (1).
'use strict';

const CoapNode = require('coap-node');
const SmartObject = require('smartobject');

const [host, port, endpoint] = process.argv.slice(2);
const client = new CoapNode(endpoint, new SmartObject());
client._config.connectionType = 'udp6';
client.registerConfigured = () => {};  // it cannot take an IPv6 literal apart, and registers with nobody here

client.on('bootstrapped', () => {
    const objects = { security: client.so.dumpSync('lwm2mSecurity'), server: client.so.dumpSync('lwm2mServer') };
    console.log(JSON.stringify(objects));
    setTimeout(() => process.exit(0), 200);  // its last answer is on its way
});
client.bootstrap(host, Number(port), (error, answer) => {
    console.log(JSON.stringify(error ? { error: String(error) } : { status: answer.status }));
    if (error || answer.status !== '2.04') process.exit(1);
});
setTimeout(() => process.exit(2), 60000);
