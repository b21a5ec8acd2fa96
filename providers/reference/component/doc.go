// Package component is the part of the BFIA component contract (API_SPECS, part 3) that every algorithm needs, whoever
// wrote it: who am I and what was I asked (the environment), where is my data (the storage), how do I tell that I ended
// (the callback).
//
// A scheduler starts a container and tells it everything by environment variables with dots in their names. [FromEnviron]
// reads them into a [Task] once; nothing else looks at the environment. [Reader] reads the parameters of a component, which
// arrive as strings, and keeps the first error with the parameter's name. [Store] reads and writes datasets. None
// of it logs or puts into an error an id, a value of a row, or the storage's password.
package component
