package main

var slowDisk = check{id: 24}
