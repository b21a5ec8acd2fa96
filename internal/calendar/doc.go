// Package calendar computes when periodic jobs run: the next times of a cron expression in a time zone. It
// does no I/O; the data of all time zones are in the program.
//
// Changes of the clock (daylight saving time) follow the rules of Vixie cron. An expression with fixed hours,
// such as 30 2 * * *, is read on the clock on the wall: it runs once on each day that it names. A time that
// the clock skips runs at the moment of the change. A time that comes twice runs at the first. An expression
// for each hour (the hour field begins with *) and @every follow real time.
package calendar
