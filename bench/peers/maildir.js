'use strict';
// Haraka's queue for the measures: an alias that leads to two Maildirs, on disk before 250.
//
// The file is written and fsynced once, moved into the alias's Maildir and linked into the primary's. Neither folder is
// fsynced, as Postfix' virtual(8) doesn't either. There is no alias table: the one recipient is known by its name.

const fs = require('node:fs');
const path = require('node:path');

const ALIAS = 'alias@example.com';
const root = process.env.MAILDIR_ROOT;
let count = 0;

exports.register = function () {
    for (const name of ['alias', 'primary'])
        for (const part of ['tmp', 'new', 'cur']) fs.mkdirSync(path.join(root, name, part), { recursive: true });
};

exports.hook_lookup_rdns = function (next) {
    next(OK, 'localhost'); // nobody else looks names up either
};

exports.hook_rcpt = function (next, connection, params) {
    const { user, host } = params[0];
    return `${user}@${host}`.toLowerCase() === ALIAS ? next(OK) : next(DENY, 'no such user');
};

exports.hook_queue = function (next, connection) {
    const name = `${Date.now()}.${process.pid}_${++count}`;
    const file = path.join(root, 'alias', 'tmp', name);
    const written = fs.createWriteStream(file, { flags: 'wx', flush: true }); // flush: fsync before close
    written.on('error', (error) => next(DENYSOFT, error.message));
    written.on('close', () => {
        if (written.errored) return;
        fs.link(file, path.join(root, 'primary', 'new', name), (error) => {
            if (error) return next(DENYSOFT, error.message);
            fs.rename(file, path.join(root, 'alias', 'new', name), (failure) => {
                if (failure) return next(DENYSOFT, failure.message);
                return next(OK);
            });
        });
    });
    connection.transaction.message_stream.pipe(written);
};
