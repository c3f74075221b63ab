/* Many WebSocket clients in one thread, which count text frames by their headers and cost little beside the server.

   load PORT CLIENTS SUBSCRIBE: connects, sends each connection's request SUBSCRIBE (none where it is empty), then answers
   lines on stdin with one line each:
     expect COUNT     when so many frames have come since the last "zero", or none for 10 s: how many, and when the last one
                      came, in ns of the monotonic clock
     zero             begins to count anew: 0
     latency SECONDS  begins to count anew, reads for so long, then: how many frames came, and the 50th and 99th
                      percentile and the maximum of their ages in microseconds. A stamp is '@' and ns of the monotonic clock. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BINS 1000000 /* of 10 us: ages up to 10 s */
#define PATIENCE 10000000000ULL

struct connection {
    int fd;
    uint64_t left;           /* bytes of the present frame's payload that are still to come */
    unsigned char head[10];  /* of the next frame */
    int had;
};

static uint64_t frames, last, stamped;
static uint32_t ages[BINS];
static int stamps;
static unsigned char buffer[1 << 18];

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000ULL + at.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void send_all(int fd, const void *data, size_t size) {
    if (send(fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) die("send");
}

static void ask(int fd, const char *request) {
    unsigned char frame[1 << 12] = {0x81};
    size_t size = strlen(request), at = 2;
    if (!size) return;
    if (size > 4000) die("SUBSCRIBE");
    frame[1] = 0x80 | (size < 126 ? size : 126);
    if (size >= 126) { frame[at++] = size >> 8; frame[at++] = size & 255; }
    at += 4; /* a mask of zeros */
    memcpy(frame + at, request, size);
    send_all(fd, frame, at + size);
}

static int open_one(int port, const char *request) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char text[512], c;
    int one = 1, end = 0, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&there, sizeof there)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int size = snprintf(text, sizeof text, "GET /ws HTTP/1.1\r\nHost: localhost:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", port);
    send_all(fd, text, size);
    for (int n = 0; end < 4; n++) { /* one by one: what comes behind the answer is a frame */
        if (recv(fd, &c, 1, 0) != 1) die("handshake");
        if (n == 9 && c != '1') { errno = EPROTO; die("handshake"); }
        end = c == "\r\n\r\n"[end] ? end + 1 : 0;
    }
    ask(fd, request);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void note(const unsigned char *payload, size_t size, uint64_t at) {
    const unsigned char *found = memchr(payload, '@', size);
    if (!found) return;
    uint64_t stamp = 0;
    for (found++; found < payload + size && *found >= '0' && *found <= '9'; found++) stamp = stamp * 10 + *found - '0';
    uint64_t age = at > stamp ? (at - stamp) / 10000 : 0;
    ages[age < BINS ? age : BINS - 1]++;
    stamped++;
}

/* The frames in what has come; a payload that is split between two reads is not looked at for its stamp. */
static void take(struct connection *c, const unsigned char *data, size_t size, uint64_t at) {
    while (size) {
        if (c->left) {
            size_t skip = c->left < size ? c->left : size;
            c->left -= skip; data += skip; size -= skip;
            continue;
        }
        int width = 2;
        do { /* the head, a byte at a time */
            c->head[c->had++] = *data++; size--;
            int length = c->had > 1 ? c->head[1] & 127 : 0;
            width = length == 127 ? 10 : length == 126 ? 4 : 2;
        } while (c->had < width && size);
        if (c->had < width) return;
        uint64_t length = 0;
        if (width == 2) length = c->head[1] & 127;
        else for (int n = 2; n < width; n++) length = length << 8 | c->head[n];
        if ((c->head[0] & 15) == 8) {
            int code = length >= 2 && size >= 2 ? data[0] << 8 | data[1] : 0;
            fprintf(stderr, "the server closes a connection with %d: %.*s\n", code, code ? (int)length - 2 : 0, data + 2);
            exit(1);
        }
        if ((c->head[0] & 15) == 9) send_all(c->fd, "\x8a\x80\0\0\0\0", 6); /* or the daemon drops the connection */
        if ((c->head[0] & 15) == 1) {
            frames++;
            last = at;
            if (stamps && length <= size) note(data, length, at);
        }
        c->had = 0;
        c->left = length;
    }
}

static void read_from(struct connection *c) {
    ssize_t size = recv(c->fd, buffer, sizeof buffer, 0);
    if (size < 0 && errno != EAGAIN) die("recv");
    if (size == 0) { fprintf(stderr, "the server has closed a connection\n"); exit(1); }
    if (size > 0) take(c, buffer, size, now());
}

static void report_expected(void) {
    printf("%llu %llu\n", (unsigned long long)frames, (unsigned long long)last);
    fflush(stdout);
}

static void report_latency(void) {
    uint64_t seen = 0, most = 0, half = 0, nearly = 0;
    for (uint64_t n = 0; n < BINS; n++) {
        if (!ages[n]) continue;
        if (seen < stamped / 2 + 1) half = n;
        if (seen < stamped - stamped / 100) nearly = n;
        seen += ages[n];
        most = n;
    }
    printf("%llu %llu %llu %llu\n", (unsigned long long)frames, (unsigned long long)half * 10 + 10,
        (unsigned long long)nearly * 10 + 10, (unsigned long long)most * 10 + 10);
    fflush(stdout);
}

int main(int count, char **words) {
    if (count != 4) { fprintf(stderr, "load PORT CLIENTS SUBSCRIBE\n"); return 2; }
    int clients = atoi(words[2]), poll = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc(clients, sizeof *all);
    struct epoll_event there = {.events = EPOLLIN}, came[256];
    for (int n = 0; n < clients; n++) {
        all[n].fd = open_one(atoi(words[1]), words[3]);
        there.data.ptr = &all[n];
        if (epoll_ctl(poll, EPOLL_CTL_ADD, all[n].fd, &there)) die("epoll_ctl");
        for (int ready = epoll_wait(poll, came, 256, 0); ready > 0; ready--) read_from(came[ready - 1].data.ptr);
    }
    there.data.ptr = NULL;
    if (epoll_ctl(poll, EPOLL_CTL_ADD, 0, &there)) die("epoll_ctl");
    printf("ready\n");
    fflush(stdout);
    uint64_t wanted = 0, until = 0, begun = 0;
    for (;;) {
        int ready = epoll_wait(poll, came, 256, wanted || until ? 10 : -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int n = 0; n < ready; n++) {
            struct connection *c = came[n].data.ptr;
            if (!c) {
                char line[64];
                ssize_t size = read(0, line, sizeof line - 1);
                if (size <= 0) return 0;
                line[size] = 0;
                begun = now();
                if (!strncmp(line, "expect ", 7)) wanted = strtoull(line + 7, NULL, 10);
                else {
                    frames = stamped = 0;
                    memset(ages, 0, sizeof ages);
                    stamps = !strncmp(line, "latency ", 8);
                    if (stamps) until = begun + (uint64_t)(atof(line + 8) * 1e9);
                    else { printf("0\n"); fflush(stdout); }
                }
                continue;
            }
            read_from(c);
        }
        uint64_t at = now();
        if (wanted && (frames >= wanted || at > (last > begun ? last : begun) + PATIENCE)) { report_expected(); wanted = 0; }
        if (until && at >= until) { report_latency(); until = stamps = 0; }
    }
}
