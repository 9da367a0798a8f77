//go:build !race

package main

// raced says that the race detector is there, with which all takes ten times as long.
const raced = false
