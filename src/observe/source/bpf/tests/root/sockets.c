/*
 * Binds as many UDP sockets as the first argument says, writes a line, and closes them when its
 * standard input ends.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	char byte;
	int i;

	for (i = 0; count > 1 && i < atoi(arguments[1]); i++) {
		int socket_fd = socket(AF_INET, SOCK_DGRAM, 0);

		if (socket_fd < 0 || bind(socket_fd, (void *)&address, sizeof(address)))
			return 1;
	}
	if (write(1, "bound\n", 6) != 6)
		return 2;
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
