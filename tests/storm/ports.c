/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens listeners as a container would, each of a known kind.
 *
 *   ports short COUNT MICROSECONDS FIRST [stay | tcp | udp]
 *                            COUNT listeners, one after the other, each open for MICROSECONDS; with `stay`, then
 *                            waits for a signal; with `udp` they are UDP sockets
 *   ports steps COUNT MICROSECONDS FIRST   COUNT listeners, MICROSECONDS apart, all open until a signal
 *   ports hold ADDRESS PORT [v6only]       listens, prints the bound `ADDRESS PORT`, and waits for a signal
 *   ports udp ADDRESS PORT [connected]
 *                            binds a UDP socket, with `connected` also connects it; prints the same and waits
 *   ports clients COUNT      COUNT UDP sockets, one after the other, that send without bind(2); prints their ports
 *   ports accept COUNT PORT                one listener on which COUNT connections are accepted
 *   ports reuse COUNT PORT                 COUNT sockets on one port (SO_REUSEPORT), closed one by one
 *   ports inherit PORT                     listens, forks a child that keeps it, and exits
 *   ports pass PORT                        listens, passes the socket to a child, and closes its own
 *   ports shutdown PORT                    listens, shuts it down, and keeps the descriptor
 *   ports unbound                          listens without bind(2); prints the port; waits for a signal
 *
 * Listener number N of `short` is of kind N mod 4: 127.0.0.1, 0.0.0.0, ::1, ::; every tenth has an ephemeral port,
 * the others FIRST + N. Each is printed, `N ADDRESS PORT NANOSECONDS`, the time of CLOCK_MONOTONIC just before
 * listen(2), or of UDP bind(2), before it is closed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void set(int fd, int level, int option)
{
	int one = 1;

	if (setsockopt(fd, level, option, &one, sizeof(one)))
		die("setsockopt");
}

/* Returns a bound socket; `flags`: 1 IPV6_V6ONLY, 2 SO_REUSEPORT, 4 UDP. */
static int bound(const char *address, int port, int flags)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int is_v6 = strchr(address, ':') != NULL;
	int fd = socket(is_v6 ? AF_INET6 : AF_INET, flags & 4 ? SOCK_DGRAM : SOCK_STREAM, 0);

	if (fd < 0)
		die("socket");
	set(fd, SOL_SOCKET, SO_REUSEADDR);
	if (flags & 1)
		set(fd, IPPROTO_IPV6, IPV6_V6ONLY);
	if (flags & 2)
		set(fd, SOL_SOCKET, SO_REUSEPORT);
	inet_pton(AF_INET, address, &v4.sin_addr);
	inet_pton(AF_INET6, address, &v6.sin6_addr);
	if (is_v6 ? bind(fd, (void *)&v6, sizeof(v6)) : bind(fd, (void *)&v4, sizeof(v4)))
		die("bind");
	return fd;
}

static int listening(const char *address, int port, int flags)
{
	int fd = bound(address, port, flags);

	if (listen(fd, 128))
		die("listen");
	return fd;
}

static int port_of(int fd)
{
	struct sockaddr_in6 name;
	socklen_t length = sizeof(name);

	if (getsockname(fd, (void *)&name, &length))
		die("getsockname");
	/* sin_port of an IPv4 address has the same offset */
	return ntohs(name.sin6_port);
}

static void wait_for_a_signal(void)
{
	fflush(stdout);
	pause();
	exit(0);
}

static void quit(int number)
{
	_exit(number == SIGTERM ? 0 : 1);
}

static void make_short(long count, long microseconds, int first, int is_udp)
{
	static const char *const addresses[] = { "127.0.0.1", "0.0.0.0", "::1", "::" };

	for (long n = 0; n < count; n++) {
		const char *address = addresses[n % 4];
		long long at = now();
		int fd = bound(address, n % 10 == 9 ? 0 : first + n, is_udp ? 4 : 0);

		if (!is_udp) {
			at = now();
			if (listen(fd, 128))
				die("listen");
		}
		printf("%ld %s %d %lld\n", n, address, port_of(fd), at);
		if (microseconds)
			usleep(microseconds);
		close(fd);
	}
}

static void open_in_steps(long count, long microseconds, int first)
{
	long long begun = now();

	for (long n = 0; n < count; n++) {
		long long left;

		listening("127.0.0.1", first + n, 0);
		/* By the clock, so that the steps do not drift away from those of the callers. */
		left = begun / 1000 + (n + 1) * microseconds - now() / 1000;
		if (left > 0)
			usleep(left);
	}
}

static void accept_many(long count, int port)
{
	int fd = listening("127.0.0.1", port, 0);

	for (long n = 0; n < count; n++) {
		struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
		int client = socket(AF_INET, SOCK_STREAM, 0), server;

		inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
		if (connect(client, (void *)&to, sizeof(to)))
			die("connect");
		server = accept(fd, NULL, NULL);
		if (server < 0)
			die("accept");
		/* Without a reset, thousands of client ends would stay in TIME_WAIT. */
		struct linger linger = { 1, 0 };
		setsockopt(server, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(server);
		close(client);
	}
	printf("%ld\n", count);
	close(fd);
}

/* Nothing serves this port (discard). */
static struct sockaddr_in unserved_address(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };

	inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
	return to;
}

static void send_unbound(long count)
{
	struct sockaddr_in to = unserved_address();

	for (long n = 0; n < count; n++) {
		int fd = socket(AF_INET, SOCK_DGRAM, 0);

		/* The kernel chooses the port before it looks for a route, so a missing route does not matter. */
		sendto(fd, "", 1, 0, (void *)&to, sizeof(to));
		printf("%d\n", port_of(fd));
		close(fd);
	}
}

static void pass(int port)
{
	int pair[2], fd = listening("127.0.0.1", port, 0);
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *header;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("socketpair");
	if (fork() == 0) {
		close(fd);
		if (recvmsg(pair[1], &message, 0) != 1)
			die("recvmsg");
		printf("passed to %d\n", getpid());
		wait_for_a_signal();
	}
	header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	if (sendmsg(pair[0], &message, 0) != 1)
		die("sendmsg");
	close(fd);
	wait_for_a_signal();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	long count = argc > 2 ? atol(argv[2]) : 0;
	int fd;

	signal(SIGTERM, quit);
	if (!strcmp(what, "short") && argc > 4) {
		int is_udp = argc > 5 && !strcmp(argv[5], "udp");

		make_short(count, atol(argv[3]), atoi(argv[4]), is_udp);
		if (argc > 5 && !strcmp(argv[5], "stay"))
			wait_for_a_signal();
	} else if (!strcmp(what, "steps") && argc > 4) {
		open_in_steps(count, atol(argv[3]), atoi(argv[4]));
		wait_for_a_signal();
	} else if (!strcmp(what, "hold") && argc > 3) {
		fd = listening(argv[2], atoi(argv[3]), argc > 4);
		printf("%s %d\n", argv[2], port_of(fd));
		wait_for_a_signal();
	} else if (!strcmp(what, "udp") && argc > 3) {
		struct sockaddr_in to = unserved_address();

		fd = bound(argv[2], atoi(argv[3]), 4);
		if (argc > 4 && connect(fd, (void *)&to, sizeof(to)))
			die("connect");
		printf("%s %d\n", argv[2], port_of(fd));
		wait_for_a_signal();
	} else if (!strcmp(what, "clients") && argc > 2) {
		send_unbound(count);
	} else if (!strcmp(what, "accept") && argc > 3) {
		accept_many(count, atoi(argv[3]));
	} else if (!strcmp(what, "reuse") && argc > 3) {
		int *fds = calloc(count, sizeof(int));

		for (long n = 0; n < count; n++)
			fds[n] = listening("127.0.0.1", atoi(argv[3]), 2);
		for (long n = 0; n < count; n++)
			close(fds[n]);
	} else if (!strcmp(what, "inherit") && argc > 2) {
		listening("127.0.0.1", count, 0);
		if (fork() == 0)
			wait_for_a_signal();
	} else if (!strcmp(what, "pass") && argc > 2) {
		pass(count);
	} else if (!strcmp(what, "shutdown") && argc > 2) {
		shutdown(listening("127.0.0.1", count, 0), SHUT_RDWR);
		printf("shut\n");
		wait_for_a_signal();
	} else if (!strcmp(what, "unbound")) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (listen(fd, 128))
			die("listen");
		printf("0.0.0.0 %d\n", port_of(fd));
		wait_for_a_signal();
	} else {
		fprintf(stderr, "see ports.c\n");
		return 2;
	}
	return 0;
}
