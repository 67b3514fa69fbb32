// Runs npm lwm2m-node-lib as an LwM2M server over IPv6: node server.js PORT. Prints a line of JSON for each thing that happens: a client
// registers (then it reads resources of /3/0 and of each instance of /33050 that the client names, writes attributes of that instance, and
// discovers it), updates (then it reads again), or deregisters (then it ends).
'use strict';

const server = require('lwm2m-node-lib').server;

const say = (what) => console.log(JSON.stringify(what));
const config = { port: Number(process.argv[2]), ipProtocol: 'udp6', serverProtocol: 'udp6', lifetimeCheckInterval: 1000, udpWindow: 100,
    defaultType: 'Device', types: [], logLevel: 'FATAL' };

function read(endpoint, links) {
    const instances = [...links.matchAll(/<\/(33050)\/([0-9]+)>/g)].map((found) => found[2]);
    const wanted = [['3', '0', '0'], ...instances.flatMap((number) => ['0', '4', '5'].map((resource) => ['33050', number, resource]))];
    server.getDevice(endpoint, (unknown, device) => {
        if (unknown) return say({ unknown: String(unknown) });
        const next = () => {
            const place = wanted.shift();
            if (place === undefined) return instances.length ? attributes(device.id, instances[0]) : say({ done: true });
            server.read(device.id, ...place, (error, value) => {
                say({ read: '/' + place.join('/'), value: error ? String(error) : value });
                next();
            });
        };
        next();
    });
}

function attributes(id, number) {
    server.writeAttributes(id, '33050', number, undefined, { pmin: 1, pmax: 60 }, (refused) => {
        server.discover(id, '33050', number, (error, links) => {
            say({ written: refused ? String(refused) : true, discovered: error ? String(error) : links });
            say({ done: true });
        });
    });
}

server.start(config, (error, info) => {
    if (error) { say({ error: String(error) }); process.exit(1); }
    server.setHandler(info, 'registration', (endpoint, lifetime, version, binding, links, callback) => {
        say({ registered: endpoint, lifetime, version, binding, links });
        callback();
        setTimeout(() => read(endpoint, links), 100);
    });
    server.setHandler(info, 'updateRegistration', (device, links, callback) => {
        say({ updated: device.name, links });
        callback();
        setTimeout(() => read(device.name, links), 100);
    });
    server.setHandler(info, 'unregistration', (device, callback) => {
        say({ deregistered: device.name });
        callback();
        setTimeout(() => process.exit(0), 500);
    });
    say({ started: true });
});
setTimeout(() => process.exit(2), 120000);
